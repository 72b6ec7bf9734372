"""A candidate next to the served version: in the repository, in a running server, and for clients that split requests."""

import asyncio
import json
import time

import numpy as np
import pytest
from golden_load import Load

from clients import AsyncRecommenderClient, RecommenderClient, Recorder
from distilrec.cli.compare import compare as compare_command
from distilrec.core.golden import load_golden
from distilrec.core.recorded import read_requests
from distilrec.serving.process.server import TritonServer, free_ports
from distilrec.serving.rollout import candidate
from distilrec.serving.rollout.approval import approve
from distilrec.serving.rollout.live import ready_versions
from distilrec.serving.rollout.live_checks import Limits
from distilrec.serving.rollout.promotion import PromotionError, promote, versions
from distilrec.serving.rollout.trial import adopt, withdraw
from export.repository.versions import served_version

QUICK = Limits(watch_s=0.2, max_p99_ms=2000)


def states(config):
    return {entry.number: entry.state for entry in versions(config.repository)}


def folders(config):
    return sorted(path.name for path in config.repository.iterdir() if path.is_dir())


def test_candidate_is_withdrawn_without_a_trace(shop_run, serving_config, variant):
    before = folders(serving_config)
    waiting = promote(
        variant(1), serving_config.repository, serving_config, None, approval="required", as_candidate=True, rehearsed=False
    )
    assert "to be served next to version 1" in waiting.review.read_text()
    assert approve(serving_config.repository, waiting.version, None, by="Ada").candidate
    assert states(serving_config) == {1: "serving", 2: "candidate"}
    assert (serving_config.repository / "student-candidate" / "2" / "model.onnx").exists()
    with pytest.raises(PromotionError, match="found version 2 as the candidate, expected none"):
        promote(variant(2), serving_config.repository, serving_config, None, as_candidate=True)
    assert promote(shop_run / "export", serving_config.repository, serving_config, None).version == 3
    assert states(serving_config) == {1: "good", 2: "candidate", 3: "serving"}
    with pytest.raises(PromotionError, match="no --by"):
        adopt(serving_config.repository, None, approval="required")
    assert withdraw(serving_config.repository, None) == 2
    assert folders(serving_config) == before
    assert not (serving_config.repository / "student" / "2").exists()
    with pytest.raises(PromotionError, match="found no candidate"):
        withdraw(serving_config.repository, None)


def test_split_shadow_compare_and_adoption_in_a_running_server(shop_run, serving_config, promotable, variant, tmp_path, capsys):
    artefact = variant(4)
    expected = {1: load_golden(shop_run / "export" / "golden.npz"), 2: load_golden(artefact / "golden.npz")}
    with Load(promotable.url, expected, threads=1) as load:
        done = promote(artefact, serving_config.repository, serving_config, promotable, limits=QUICK, as_candidate=True)
        assert (done.version, done.former, done.candidate, done.watched.failed) == (2, 1, True, 0)
        assert ready_versions(promotable, "student") == {1}
        assert ready_versions(promotable, "recommend-candidate") == {2}
        check_split(promotable.url, tmp_path / "requests")
        check_shadow(promotable.url)
        compare_command(requests=tmp_path / "requests", url=promotable.url, other_url=None, k=5, most=50, groups=None,
                        output=tmp_path / "compare.json", tls_ca=None, tls_cert=None, tls_key=None, metadata=None)  # fmt: skip
        adopt(serving_config.repository, promotable, limits=QUICK, by="Ada", note="more clicks")
        time.sleep(0.2)
    assert (load.failed, load.wrong, load.seen) == ([], [], {1, 2})
    assert served_version(serving_config.repository) == 2
    assert states(serving_config) == {1: "good", 2: "serving"}
    assert not any("candidate" in name for name in folders(serving_config))
    assert ready_versions(promotable, "student-candidate") == set()
    found = json.loads((tmp_path / "compare.json").read_text())
    assert found["versions"] == ["1", "2"]
    assert 0 < found["overlap"] < 1
    assert sum(share[0] for share in found["exposure"].values()) == pytest.approx(1)
    assert "latency p99" in capsys.readouterr().out
    with RecommenderClient(promotable.url, split={"candidate": 1.0}) as client:  # the served version answers for it
        answer = client.recommend(["item-1"], k=5, key="anybody")
        assert (answer.variant, answer.model_version) == ("served", "2")


def check_split(url, folder):
    """A key always gets the same version, and about the asked share of the keys gets the candidate."""
    recorder = Recorder(folder, share=1)
    with RecommenderClient(url, split={"candidate": 0.3}, record=recorder) as client:
        answers = {key: client.recommend(iter(["item-1", f"item-{key % 60}"]), k=5, key=f"user {key}") for key in range(80)}
        again = {key: client.recommend(["item-1", f"item-{key % 60}"], k=5, key=f"user {key}") for key in range(80)}
        assert client.recommend(["item-1"], k=5).variant == "served"
    assert answers == again
    assert {(a.variant, a.model_version, a.propensity) for a in answers.values()} == {("candidate", "2", 0.3), ("served", "1", 0.7)}
    share = np.mean([answer.variant == "candidate" for answer in answers.values()])
    assert 0.1 < share < 0.5
    requests, broken = read_requests(folder)
    assert (len(requests), broken) == (161, 0)
    assert "user" not in "".join(path.read_text() for path in folder.iterdir())


def check_shadow(url):
    seen = []
    with RecommenderClient(url, shadow=lambda served, other: seen.append((served, other))) as client:
        served = client.recommend(["item-1", "item-2"], k=5)
        deadline = time.monotonic() + 10
        while not seen and time.monotonic() < deadline:
            time.sleep(0.01)
    assert seen[0][0] == served
    assert (seen[0][1].variant, seen[0][1].model_version) == ("candidate", "2")

    async def ask():
        done = asyncio.Event()
        async with AsyncRecommenderClient(url, split={"candidate": 1.0}, shadow=lambda *_: done.set()) as client:
            answer = await client.recommend(["item-1"], k=5, key="somebody")
            await asyncio.wait_for(done.wait(), 10)
            return answer

    assert asyncio.run(ask()).variant == "candidate"


def test_start_serves_the_candidate_and_a_killed_promotion_leaves_none(serving_config, variant, tmp_path, monkeypatch):
    place = candidate.place

    def killed(*arguments):
        place(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(candidate, "place", killed)
    with pytest.raises(KeyboardInterrupt):
        promote(variant(1), serving_config.repository, serving_config, None, as_candidate=True)
    monkeypatch.undo()
    assert not any("candidate" in name for name in folders(serving_config))
    promote(variant(1), serving_config.repository, serving_config, None, as_candidate=True)
    with (
        TritonServer(serving_config.repository, free_ports(), tmp_path / "start.log") as server,
        RecommenderClient(server.url, split={"candidate": 1.0}) as client,
    ):
        assert client.recommend(["item-1"], k=5, key="anybody").model_version == "3"
