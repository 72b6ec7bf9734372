"""What a client does when the server fails it: killed, restarted, exchanged under load. Against a real one."""

import asyncio
import os
import shutil
import signal
import threading
import time

import pytest
from artefacts import other_sizes

from clients import (
    AsyncRecommenderClient,
    ClientError,
    DeadlineExceeded,
    ModelNotFound,
    RecommenderClient,
    ServerUnavailable,
    VocabularyMismatch,
)
from distilrec.data.vocabulary import load_vocabulary
from distilrec.serving.process.control import ModelControl
from distilrec.serving.process.server import TritonServer, free_ports
from distilrec.serving.rollout.live_checks import Limits
from distilrec.serving.rollout.promotion import promote, rollback
from export.repository.fill import fill_repository

pytestmark = pytest.mark.server

QUICK = Limits(watch_s=0.5, max_p99_ms=5000)
MARGIN_S = 2.0


class Asking:
    """Two threads and an event loop that ask without a pause; keeps what they saw."""

    def __init__(self, url, **options):
        self.answers, self.errors, self.took_s = [], [], []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url, options)) for _ in range(2)]
        self._threads.append(threading.Thread(target=lambda: asyncio.run(self._ask_on_asyncio(url, options))))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, url, options):
        with RecommenderClient(url, **options) as client:
            while not self._stop.is_set():
                begin = time.monotonic()
                try:
                    self.answers.append((begin, client.recommend(["item-1"], k=5)))
                except ClientError as error:
                    self.errors.append((begin, error))
                self.took_s.append(time.monotonic() - begin)
                time.sleep(0.002)

    async def _ask_on_asyncio(self, url, options):
        async with AsyncRecommenderClient(url, **options) as client:
            while not self._stop.is_set():
                begin = time.monotonic()
                for answer in await asyncio.gather(*(client.recommend(["item-1"], k=5) for _ in range(3)), return_exceptions=True):
                    assert not isinstance(answer, BaseException) or isinstance(answer, ClientError), repr(answer)
                    (self.errors if isinstance(answer, ClientError) else self.answers).append((begin, answer))
                self.took_s.append(time.monotonic() - begin)
                await asyncio.sleep(0.002)


def test_a_server_that_is_killed_and_started_again_is_found_again(serving_config, tmp_path):
    ports = free_ports()
    first = TritonServer(serving_config.repository, ports, tmp_path / "log")
    with Asking(first.url, timeout_s=4.0) as asking:
        time.sleep(1)
        assert asking.answers
        os.kill(first.pid, signal.SIGKILL)
        killed = time.monotonic()
        first.stop()
        # Longer than any call may take: some must fail, and none may hang.
        time.sleep(5)
        with TritonServer(serving_config.repository, ports, tmp_path / "log2"):
            started = time.monotonic()
            time.sleep(3)
            asking.stop()
    assert asking.errors
    # Nobody there, no answer in time, or a server that has not loaded its model yet.
    assert {type(error) for _, error in asking.errors} <= {ServerUnavailable, DeadlineExceeded, ModelNotFound}
    late = [(begin - started, str(error)) for begin, error in asking.errors if not killed - 4 - MARGIN_S < begin < started]
    assert late == []
    assert max(asking.took_s) < 4.0 + MARGIN_S
    assert sum(begin > started for begin, _ in asking.answers) > 100


def test_a_restart_within_the_deadline_fails_no_request(serving_config, tmp_path):
    with (
        TritonServer(serving_config.repository, free_ports(), tmp_path / "log") as server,
        Asking(server.url, timeout_s=30.0, retries=60) as asking,
    ):
        time.sleep(1)
        server.restart()
        time.sleep(2)
        asking.stop()
    assert asking.errors == []
    assert len(asking.answers) > 100


def test_a_model_that_is_away_for_a_moment_fails_no_request(promotable):
    """As when the watchdog heals it."""
    control = ModelControl(promotable.url, promotable.secret)
    with Asking(promotable.url, timeout_s=30.0, retries=60) as asking:
        time.sleep(0.5)
        control.unload("student")
        time.sleep(0.5)
        control.load("student")
        time.sleep(1)
    assert asking.errors == []


def test_a_promotion_to_another_vocabulary_is_followed_and_nothing_is_mixed_up(serving_config, promotable, shop_run, tmp_path):
    artefact = other_sizes(shop_run / "export", tmp_path / "export")
    old, new = (load_vocabulary(folder / "vocabulary.json") for folder in (shop_run / "export", artefact))
    assert not set(old.item_ids) & set(new.item_ids)
    with (
        RecommenderClient(promotable.url, vocabulary=old, retries=0) as fixed,
        RecommenderClient(promotable.url, vocabulary=serving_config.repository) as beside,
        Asking(promotable.url, timeout_s=20.0) as asking,
    ):
        fixed.recommend(["item-1"])
        beside.recommend(["item-1"])
        promote(artefact, serving_config.repository, serving_config, promotable, limits=QUICK)
        with pytest.raises(VocabularyMismatch, match=r"version 2 means vocabulary .*leave vocabulary= away"):
            fixed.recommend(["item-1"])
        assert set(beside.recommend(["new-1"]).ids) <= set(new.item_ids)
        time.sleep(1)
        rollback(serving_config.repository, promotable)
        assert fixed.recommend(["item-1"]).unknown_ids == ()
        time.sleep(1)
    assert asking.errors == []
    seen = {"1": old, "2": new}
    assert {answer.model_version for _, answer in asking.answers} == set(seen)
    for _, answer in asking.answers:
        vocabulary = seen[answer.model_version]
        assert len(answer) == 5
        assert answer.titles == tuple(vocabulary.title(item_id) for item_id in answer.ids)
        assert answer.unknown_ids == (() if vocabulary is old else ("item-1",))


def test_another_server_at_the_same_address_with_the_same_version_number(serving_config, shop_run, tmp_path):
    ports = free_ports()
    artefact = other_sizes(shop_run / "export", tmp_path / "export")
    another = serving_config.model_copy(update={"repository": tmp_path / "another"})
    fill_repository(artefact, another)
    with RecommenderClient(f"127.0.0.1:{ports.grpc}", timeout_s=20, retries=30) as client:
        with TritonServer(serving_config.repository, ports, tmp_path / "log"):
            assert client.recommend(["item-1"]).model_version == "1"
        with TritonServer(another.repository, ports, tmp_path / "log2"):
            answer = client.recommend(["new-1"])
    assert answer.model_version == "1"
    assert answer.unknown_ids == ()
    assert all(item_id.startswith("new-") for item_id in answer.ids)


def test_a_server_that_dies_in_the_middle_of_many_keeps_what_was_answered(serving_config, tmp_path):
    with TritonServer(serving_config.repository, free_ports(), tmp_path / "log") as server:
        done = []

        def kill_soon(count):
            done.append(count)
            if len(done) == 20:
                os.kill(server.pid, signal.SIGKILL)

        with RecommenderClient(server.url, timeout_s=2, retries=1) as client:
            begin = time.monotonic()
            answers = client.recommend_many([["item-1"]] * 20_000, progress=kill_soon)
            assert time.monotonic() - begin < 30
    failed = [isinstance(answer, ClientError) for answer in answers]
    assert len(answers) == 20_000
    assert not any(failed[: 8 * 20])
    assert all(failed[-1000:])
    assert isinstance(answers[-1], ServerUnavailable)


def test_a_server_without_the_vocabulary_model_says_what_to_do(serving_config, tmp_path):
    shutil.rmtree(serving_config.repository / "vocabulary")
    with TritonServer(serving_config.repository, free_ports(), tmp_path / "log") as server:
        with (
            RecommenderClient(server.url) as client,
            pytest.raises(VocabularyMismatch, match=r"does not hand its vocabulary over; give"),
        ):
            client.recommend([])
        with RecommenderClient(server.url, vocabulary=serving_config.repository) as client:
            assert len(client.recommend([])) == 10
