"""Both clients against a real tritonserver: the same promises, blocking and on asyncio."""

import asyncio
import gc
import threading
from pathlib import Path

import pytest

from clients import AsyncRecommenderClient, InvalidRequest, ModelNotFound, RecommenderClient, VocabularyMismatch
from distilrec.core.errors import DataError
from distilrec.data import stage as data_stage
from distilrec.data.vocabulary import Vocabulary

pytestmark = pytest.mark.usefixtures("shop_run")


class Awaited:
    """The asyncio client, called as the blocking one."""

    def __init__(self, *args, **options):
        self.loop = asyncio.new_event_loop()
        self.client = AsyncRecommenderClient(*args, **options)

    def __getattr__(self, name):
        return lambda *args, **options: self.loop.run_until_complete(getattr(self.client, name)(*args, **options))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        self.loop.close()


@pytest.fixture(scope="module", params=[RecommenderClient, Awaited])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def shop(shop_run):
    return data_stage.load(shop_run / "data")


@pytest.fixture(scope="module")
def client(kind, shop_server):
    with kind(shop_server.url) as client:
        yield client


def test_speaks_in_ids_and_titles(client, shop):
    dataset, vocabulary = shop
    history = vocabulary.decode(dataset.sequence(0)[:5].tolist())
    answer = client.recommend(history, k=7)
    assert len(answer) == 7
    assert set(answer.ids) <= set(vocabulary.item_ids) - set(history)
    assert [(item_id, score) for item_id, score in answer] == list(zip(answer.ids, answer.scores, strict=True))
    assert list(answer.scores) == sorted(answer.scores, reverse=True)
    assert answer.titles == tuple(vocabulary.title(item_id) for item_id in answer.ids)
    assert answer.model_version == "1"
    assert answer.latency_ms > 0
    again = client.recommend(history, k=7, exclude=answer.ids[:3])
    assert again.ids[:4] == answer.ids[3:]


def test_unknown_ids_are_reported_and_do_not_change_the_answer(client):
    answer = client.recommend(["item-1", "no-such-item", "ключ-🎁", "item-2", ""])
    assert answer.unknown_ids == ("no-such-item", "ключ-🎁", "")
    assert answer.ids == client.recommend(["item-1", "item-2"]).ids


def test_empty_and_unknown_histories_get_the_most_popular(client, shop):
    dataset, vocabulary = shop
    counts = dataset.training_counts()
    answer = client.recommend([], k=10)
    assert [counts[index] for index in vocabulary.encode(answer.ids)] == sorted(counts, reverse=True)[:10]
    assert client.recommend(["?", "!"]).ids == answer.ids


def test_10000_ids_of_history_keep_the_newest_and_recommend_none_of_them(client, shop):
    dataset, vocabulary = shop
    newest = vocabulary.decode(dataset.sequence(3)[:12].tolist())
    older = [item_id for item_id in vocabulary.item_ids[:60] if item_id not in newest]
    history = ((older * 10000)[: 10000 - len(newest)]) + newest
    answer = client.recommend(history, k=20)
    assert not set(answer.ids) & set(history)
    # 16 of the older fit into the request, so of the 20 items that came some may have been taken out.
    wanted = [item_id for item_id in client.recommend(newest, k=20).ids if item_id not in older]
    assert answer.ids[: len(wanted)] == tuple(wanted)


@pytest.mark.parametrize("k", [0, -1, 21, "5", 2.5, None, True])
def test_k_that_the_engine_cannot_give(client, k):
    with pytest.raises(InvalidRequest, match="found k = "):
        client.recommend([], k=k)


@pytest.mark.parametrize("history", ["item-1", b"item-1", [1, 2], [None], 7, None])
def test_ids_that_are_not_strings(client, history):
    with pytest.raises(InvalidRequest, match=r"model 'student': history: found .*expected a sequence of item ids"):
        client.recommend(history)


def test_many_keep_their_order_and_an_invalid_one_affects_no_other(client, shop):
    dataset, vocabulary = shop
    histories = [vocabulary.decode(dataset.sequence(user)[:6].tolist()) for user in range(200)]
    bad = {17: 5, 100: "item-1", 199: [3]}
    finished = []
    answers = client.recommend_many(
        [bad.get(place, history) for place, history in enumerate(histories)], k=5, progress=finished.append, in_flight=3
    )
    assert len(answers) == sum(finished) == 200
    for place, (answer, history) in enumerate(zip(answers, histories, strict=True)):
        if place in bad:
            assert isinstance(answer, InvalidRequest)
        elif place % 40 == 0:
            assert answer.ids == client.recommend(history, k=5).ids
        else:
            assert len(answer) == 5


def test_many_with_what_each_excludes(client):
    first, second = client.recommend_many([[], []], k=3, exclude=[[], client.recommend([], k=3).ids])
    assert not set(first.ids) & set(second.ids)
    with pytest.raises(InvalidRequest, match="found 1 entries for 2 histories"):
        client.recommend_many([[], []], exclude=[[]])


def test_many_of_none(client):
    assert client.recommend_many([]) == []


def test_many_with_an_impossible_k_is_an_error(client):
    with pytest.raises(InvalidRequest, match="found k = 1000"):
        client.recommend_many([[]] * 100, k=1000)


def test_many_with_a_bar(client, capsys, monkeypatch):
    monkeypatch.setattr("distilrec.core.progress.is_interactive", lambda: True)
    client.recommend_many([[]] * 70, progress=True)
    assert "70/70" in capsys.readouterr().err


def test_info(client, shop, shop_config):
    _, vocabulary = shop
    info = client.info()
    assert (info.model, info.version, info.precision) == ("student", "1", "fp32")
    assert (info.k, info.history_length, info.catalogue_size) == (20, 12, len(vocabulary))
    assert info.vocabulary_sha256 == vocabulary.sha256
    assert info.max_batch_size == shop_config.export.max_batch_size


def test_the_server_hands_its_vocabulary_over(client, shop):
    assert client.vocabulary() == shop[1]


@pytest.mark.parametrize("place", ["student/1/vocabulary.json", "student/1", "."])
def test_vocabulary_from_a_path(kind, shop_server, shop_config, place):
    with kind(shop_server.url, vocabulary=shop_config.export.repository / place) as client:
        assert len(client.recommend(["item-1"])) == 10


def test_vocabulary_of_the_export(kind, shop_server, shop_run):
    with kind(shop_server.url, vocabulary=str(shop_run / "export")) as client:
        assert len(client.recommend(["item-1"])) == 10


def test_other_vocabulary_is_refused(kind, shop_server, shop):
    _, vocabulary = shop
    other = Vocabulary(tuple(reversed(vocabulary.item_ids)), vocabulary.titles)
    with (
        kind(shop_server.url, vocabulary=other) as client,
        pytest.raises(VocabularyMismatch, match=r"version 1 means vocabulary .*leave vocabulary= away"),
    ):
        client.recommend([])


def test_a_path_that_holds_nothing(kind, tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        kind("127.0.0.1:9", vocabulary=tmp_path / "v.json")
    with kind("127.0.0.1:9", vocabulary=tmp_path):
        pass  # a folder may get its file later


def test_unknown_model(kind, shop_server):
    with (
        kind(shop_server.url, model="nobody") as client,
        pytest.raises(ModelNotFound, match=r"model 'nobody': the server does not serve this model"),
    ):
        client.recommend([])


def test_foreign_models_are_refused(kind, shop_server):
    for model in ("recommend", "vocabulary"):
        with kind(shop_server.url, model=model) as client, pytest.raises(Exception, match="not a DistilRec recommender"):
            client.recommend([])


def test_health(client):
    health = client.health()
    assert health
    assert (health.live, health.ready, health.answers, health.reason) == (True, True, True, "")


def test_ready_at_once(client):
    client.wait_until_ready(timeout_s=5)


def test_one_client_in_many_threads(shop_server):
    with RecommenderClient(shop_server.url) as client:
        expected, found = client.recommend(["item-3"]).ids, []
        threads = [threading.Thread(target=lambda: found.append(client.recommend(["item-3"]).ids)) for _ in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [expected] * 32


def test_1000_requests_at_once_leave_nothing_behind(shop_server):
    def sockets():
        return sum(entry.is_socket() for entry in Path("/proc/self/fd").iterdir())

    async def ask():
        async with AsyncRecommenderClient(shop_server.url, timeout_s=30) as client:
            answers = await asyncio.gather(*(client.recommend([f"item-{number % 90}"]) for number in range(1000)))
        assert all(len(answer) == 10 for answer in answers)
        return asyncio.all_tasks() - {asyncio.current_task()}

    asyncio.run(ask())
    gc.collect()
    before = sockets(), threading.active_count()
    assert asyncio.run(ask()) == set()
    gc.collect()
    assert (sockets(), threading.active_count()) <= before
