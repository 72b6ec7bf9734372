"""What a request can choose, from the client to a real server and back."""

import asyncio
import json
import urllib.error
import urllib.request
from functools import partial

import polars as pl
import pytest
from typer.testing import CliRunner

from clients import AsyncRecommenderClient, InvalidRequest, RecommenderClient
from clients.connection import Connection
from distilrec.bulk.run import recommend_file
from distilrec.cli.app import app
from distilrec.core.manifest import read_manifest
from distilrec.core.specs import MODEL_NAME
from distilrec.loadtest.run import measure
from distilrec.loadtest.settings import LoadSettings
from distilrec.serving.process.security import ControlSecret
from distilrec.serving.process.server import TritonServer, free_ports
from distilrec.serving.rollout.checks import check_artefact
from distilrec.serving.rollout.live import Server
from distilrec.serving.rollout.live_checks import Limits, LiveChecks
from distilrec.serving.rollout.promotion import promote
from export.repository.fill import artefact_facts, fill_repository
from export.repository.models import render_front_door

pytestmark = pytest.mark.server

HISTORY = ["item-3", "item-9"]


@pytest.fixture(scope="module")
def client(choosing_server):
    with RecommenderClient(choosing_server.url) as client:
        yield client


def attributes(item_id):
    item = int(item_id.removeprefix("item-"))
    return {
        "genre": {"rare" if item == 7 else f"genre {item % 6}"},
        "colour": {("red", "blue", "grün")[item % 3]} if item % 4 else set(),
        "tag": {f"tag {tag}" for tag in range(item % 3)},
    }


def brute_force(client, wanted, k):
    """The first k items of the whole ranking that fit, from single requests for each item: ``allow`` of one item scores it."""
    scores = {}
    for item in range(90):
        answer = client.recommend(HISTORY, k=1, allow=[f"item-{item}"])
        scores |= dict(answer)
    fitting = [item for item in scores if all(attributes(item)[name] & set(values) for name, values in wanted.items())]
    return sorted(fitting, key=lambda item: -scores[item])[:k]


@pytest.mark.parametrize(
    "wanted",
    [
        {"genre": ["genre 1"]},
        {"genre": ["genre 1", "genre 2"], "colour": ["grün"]},
        {"genre": ["genre 4"], "tag": ["tag 0", "tag 1"], "colour": ["red"]},
        {"genre": ["rare"]},
        {"genre": ["rare"], "colour": ["grün"]},
    ],
)
def test_filter_returns_the_best_items_that_fit_and_says_how_many_are_missing(client, wanted):
    answer = client.recommend(HISTORY, k=10, filter=wanted)
    assert list(answer.ids) == brute_force(client, wanted, 10)
    assert answer.missing == 10 - len(answer)
    assert client.recommend(HISTORY, k=10).missing == 0


def test_client_learns_attributes_and_values_from_the_server(client):
    values = client.info().filters.values
    assert list(values) == ["genre", "colour", "tag"]
    assert values["colour"] == ("blue", "grün", "red")


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"filter": {"colour": "gruen"}}, r"'gruen' for 'colour', expected one of its 3 values; did you mean 'grün'"),
        ({"filter": {"brand": ["x"]}}, "found the attribute 'brand', expected one of 'genre', 'colour', 'tag'"),
        ({"filter": {"genre": [f"genre {g}" for g in range(5)]}}, r"found 5 values, expected at most 4 \(export.filter_length\)"),
        ({"filter": {"genre": []}}, "expected one value or several"),
        ({"filter": {"genre": [1]}}, "expected one value or several"),
        ({"filter": ["genre"]}, "expected values by the name"),
        ({"allow": [f"item-{i}" for i in range(6)]}, r"found 6 ids, expected at most 5 \(export.allow_length\)"),
        ({"allow": "item-1"}, "expected a sequence of item ids"),
        ({"repeats": "always"}, "expected one of 'never', 'allow'"),
    ],
)
def test_choice_that_cannot_be_met_is_explained(client, choice, message):
    with pytest.raises(InvalidRequest, match=message):
        client.recommend(HISTORY, **choice)


def test_a_value_list_of_ten_thousand_is_refused(client):
    with pytest.raises(InvalidRequest, match="found 'value 0' for 'genre'"):
        client.recommend(HISTORY, filter={"genre": [f"value {place}" for place in range(10_000)]})


def test_allow_restricts_the_answer_to_known_ids_of_the_list(client):
    answer = client.recommend(HISTORY, allow=["item-5", "gone", "item-3", "item-80"])
    assert set(answer.ids) == {"item-5", "item-80"}  # item-3 is in the history
    assert answer.unknown_ids == ("gone",)
    assert client.recommend(HISTORY, allow=["gone"]).ids == client.recommend(HISTORY, allow=[]).ids == ()


def test_repeats_let_items_of_the_history_come_back(client):
    history = [f"item-{place * 7 % 90}" for place in range(50)]
    assert not set(client.recommend(history, k=20).ids) & set(history)
    answer = client.recommend(history, k=20, repeats="allow")
    assert set(answer.ids) & set(history)
    assert not {"item-3"} & set(client.recommend(HISTORY, k=20, repeats="allow", exclude=["item-3"]).ids)


def test_similar_items_share_the_genre_and_leave_out_the_item(client):
    answer = client.similar("item-10", k=8, filter={"genre": "genre 4"})
    assert len(answer) == 8
    assert {int(item.removeprefix("item-")) % 6 for item in answer.ids} == {4}
    assert "item-10" not in answer.ids
    assert all(-1.001 <= score <= 1.001 for score in answer.scores)
    with pytest.raises(InvalidRequest, match="'no such item', expected the id of an item"):
        client.similar("no such item")


def test_many_histories_have_a_filter_each_or_one_for_all(client):
    histories = [["item-1"], ["item-2"], ["item-3"]]
    filters = [{"genre": "genre 1"}, None, {"genre": "nonsense"}]
    first, second, third = client.recommend_many(histories, k=5, filter=filters)
    assert first == client.recommend(histories[0], k=5, filter=filters[0])
    assert second == client.recommend(histories[1], k=5)
    assert isinstance(third, InvalidRequest)
    for answer, history in zip(client.recommend_many(histories, filter={"colour": "red"}, repeats="allow"), histories, strict=True):
        assert answer == client.recommend(history, filter={"colour": "red"}, repeats="allow")
    with pytest.raises(InvalidRequest, match="filter: found 2 entries for 3 histories"):
        client.recommend_many(histories, filter=filters[:2])


def test_asyncio_client_chooses_as_the_blocking_one(choosing_server, client):
    async def ask():
        async with AsyncRecommenderClient(choosing_server.url) as asynchronous:
            chosen = await asynchronous.recommend(HISTORY, filter={"genre": "genre 2"}, repeats="allow")
            (many,) = await asynchronous.recommend_many([HISTORY], filter={"genre": "genre 2"}, repeats="allow")
            return chosen, many, await asynchronous.similar("item-4", k=3)

    chosen = client.recommend(HISTORY, filter={"genre": "genre 2"}, repeats="allow")
    assert asyncio.run(ask()) == (chosen, chosen, client.similar("item-4", k=3))


def post(server, *tensors):
    history = {"name": "history", "datatype": "BYTES", "shape": [1, 2], "data": HISTORY}
    body = json.dumps({"inputs": [history, *tensors]}).encode()
    url = f"http://127.0.0.1:{server.ports.http}/v2/models/recommend/infer"
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=10) as response:
        return {tensor["name"]: tensor["data"] for tensor in json.load(response)["outputs"]}


def chosen(name, *values):
    return {"name": name, "datatype": "BYTES", "shape": [1, len(values)], "data": list(values)}


def test_curl_chooses_in_words(choosing_server, client):
    answer = post(choosing_server, chosen("filter", "genre=genre 1", "genre=genre 2", "colour=grün"), chosen("repeats", "allow"))
    expected = client.recommend(HISTORY, filter={"genre": ["genre 1", "genre 2"], "colour": "grün"}, repeats="allow")
    assert [item for item in answer["item_ids"] if item] == list(expected.ids)
    answer = post(choosing_server, chosen("allow", "item-5", "gone"))
    assert answer["item_ids"] == ["item-5"] + [""] * 9
    assert answer["unknown_ids"] == ["gone"]
    answer = post(choosing_server, {"name": "similar", "datatype": "INT32", "shape": [1, 1], "data": [1]})
    assert answer["item_ids"] == list(client.similar("item-9", exclude=["item-3"]).ids)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (chosen("filter", "colour=gruen"), "did you mean 'grün'"),
        (chosen("filter", "brand=x"), "expected one of 'genre', 'colour', 'tag'"),
        (chosen("filter", "genre"), "found '' for 'genre'"),
        (chosen("allow", *(f"item-{i}" for i in range(6))), "found 6 ids, expected at most 5"),
        (chosen("repeats", "always"), "expected 'never' or 'allow'"),
    ],
)
def test_curl_is_told_what_a_choice_lacks(choosing_server, tensor, message):
    with pytest.raises(urllib.error.HTTPError) as error:
        post(choosing_server, tensor)
    assert error.value.code == 400
    assert message in json.load(error.value)["error"]


def test_golden_requests_choose_and_are_answered_live_by_student_and_front_door(choosing_server, choosing_run, choosing_config):
    check_artefact(choosing_run / "export", choosing_config.export)
    checks = LiveChecks(choosing_server.url, 64)
    requests = checks.check_version(choosing_config.export.repository, [MODEL_NAME, "recommend"], 1)
    assert set(requests.choices) == {"filter", "allow", "repeats", "similar"}
    assert all(values.any() for values in requests.choices.values())


def test_plain_model_says_which_setting_a_choice_needs(shop_server):
    with RecommenderClient(shop_server.url) as plain:
        for choice, setting in (
            ({"filter": {"genre": "x"}}, "data.filters"),
            ({"allow": ["item-1"]}, "export.allow_length"),
            ({"repeats": "allow"}, "export.repeats"),
        ):
            with pytest.raises(InvalidRequest, match=f"exported without it .{setting}"):
                plain.recommend(HISTORY, **choice)
        with pytest.raises(InvalidRequest, match=r"export\.similar"):
            plain.similar("item-1")


def test_command_recommends_with_a_filter_and_says_what_is_missing(choosing_server, client):
    """In one process, as the options are all that is new; tests/distilrec/cli/test_recommend.py runs the command itself."""
    call = partial(CliRunner().invoke, app)
    url = ["recommend", "--url", choosing_server.url]
    done = call([*url, "--history", *HISTORY, "--filter", "genre=genre 1", "genre=rare", "colour=grün", "--k", "20", "--json"])
    expected = client.recommend(HISTORY, k=20, filter={"genre": ["genre 1", "rare"], "colour": "grün"})
    answer = json.loads(done.stdout)
    assert [item["item_id"] for item in answer["items"]] == list(expected.ids)
    assert answer["missing"] == expected.missing > 0
    done = call([*url, "--history", "title 3", "--allow", "title 3", "--repeats"])
    assert done.stdout.split()[0] == "1"
    assert "9 of 10 items are missing" in done.stderr
    done = call([*url, "--similar", "title 4", "--k", "3"])
    assert [line.split()[2] for line in done.stdout.splitlines()] == list(client.similar("item-4", k=3).ids)
    done = call([*url, "--similar", "title 4", "--repeats"])
    assert "--similar with --history or --repeats" in str(done.exception)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_file_has_a_filter_and_a_list_for_each_row(client, tmp_path, suffix):
    rows = [
        {"history": HISTORY, "filter": ["genre=genre 1"], "allow": None},
        {"history": HISTORY, "filter": None, "allow": ["item-4", "item-5"]},
        {"history": [], "filter": ["genre=nonsense"], "allow": None},
    ]
    source, output = tmp_path / f"users{suffix}", tmp_path / "answers.jsonl"
    if suffix == ".jsonl":
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pl.DataFrame(rows).write_parquet(source)
    with pytest.raises(InvalidRequest, match="did you mean 'grün'"):
        recommend_file(client, source, output, 5, filter=["colour=gruen"])
    assert list(tmp_path.iterdir()) == [source]
    summary = recommend_file(client, source, output, 5, filter=["colour=red"], repeats="allow", report=lambda _: None)
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    first = client.recommend(HISTORY, 5, filter={"genre": "genre 1", "colour": "red"}, repeats="allow")
    assert answers[0]["item_ids"] == list(first.ids)
    assert answers[1]["item_ids"] == list(client.recommend(HISTORY, 5, allow=["item-4", "item-5"], filter={"colour": "red"}).ids)
    assert (summary.failed, "'nonsense' for 'genre'" in answers[2]["error"]) == (1, True)


def test_load_may_filter(choosing_server):
    """All answers of a short load are good; tests/distilrec/load has the rest."""
    connection = Connection(choosing_server.url)
    settings = LoadSettings(connection, MODEL_NAME, None, 2, 0.5, 1, 5.0, 1.0, 0, filter_share=0.5)
    result = measure(settings)
    assert result["settings"]["filter_share"] == 0.5
    assert result["result"]["requests"]["answered"] > 0
    assert result["result"]["requests"]["failed"] == 0


def test_front_door_carries_choices_to_a_student_on_another_backend(choosing_run, choosing_config, client, tmp_path):
    """The form that NVIDIA's container serves, here with the Python student upstream."""
    config = choosing_config.export.model_copy(update={"repository": tmp_path / "repo"})
    fill_repository(choosing_run / "export", config)
    facts = artefact_facts(read_manifest(choosing_run / "export"))
    text = render_front_door(facts, config.model_copy(update={"target": "onnxruntime"}))
    (tmp_path / "repo" / "recommend" / "config.pbtxt").write_text(text)
    (tmp_path / "repo" / "recommend" / "1" / "model.onnx").unlink()
    with TritonServer(config.repository, free_ports(), tmp_path / "log", http=True) as server:
        answer = post(server, chosen("filter", "genre=genre 1", "colour=grün"), chosen("repeats", "allow"))
    expected = client.recommend(HISTORY, filter={"genre": "genre 1", "colour": "grün"}, repeats="allow")
    assert [item for item in answer["item_ids"] if item] == list(expected.ids)


def test_client_of_a_plain_model_follows_a_promotion_to_one_whose_requests_choose(shop_run, shop_config, choosing_run, tmp_path):
    config = shop_config.export.model_copy(update={"repository": tmp_path / "repo", "instances": 1, "max_batch_size": 8})
    fill_repository(shop_run / "export", config)
    secret = ControlSecret()
    with (
        TritonServer(config.repository, free_ports(), tmp_path / "log", secret=secret) as server,
        RecommenderClient(server.url) as follower,
    ):
        plain = follower.recommend(HISTORY, k=5)
        live = Server(server.url, secret, load_timeout_s=30)
        promote(choosing_run / "export", config.repository, config, live, limits=Limits(watch_s=0.3), rehearsed=False)
        assert follower.recommend(HISTORY, k=5).ids == plain.ids  # the same student, of another version
        assert len(follower.recommend(HISTORY, filter={"genre": "rare"})) == 1
