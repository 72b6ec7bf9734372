"""`distilrec recommend` against a real server: by titles, and for whole files."""

import json
import os
import signal
import subprocess
import sys
import time

import polars as pl
import pytest
from typer.testing import CliRunner

from clients import ClientError, Recommendations, RecommenderClient
from distilrec.bulk.run import PART_ROWS, recommend_file
from distilrec.cli.app import app
from distilrec.cli.recommend import print_table
from distilrec.core.errors import DataError, DistilRecError
from distilrec.data import stage as data_stage
from distilrec.serving.process.server import TritonServer, free_ports

SILENT = {"report": lambda _: None}


def start(*arguments, **environment):
    command = [sys.executable, "-m", "distilrec", "recommend", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **environment})


def recommend(*arguments, **environment):
    process = start(*arguments, **environment)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def url(shop_server):
    return shop_server.url


@pytest.fixture(scope="module")
def client(url):
    with RecommenderClient(url) as client:
        yield client


@pytest.fixture(scope="module")
def item_ids(shop_run):
    return data_stage.load(shop_run / "data")[1].item_ids


def users(item_ids, count):
    return [{"user_id": f"u{n}", "history": [item_ids[(n + step) % len(item_ids)] for step in range(n % 9)]} for n in range(count)]


def write_users(path, rows):
    if path.suffix == ".parquet":
        pl.DataFrame(rows, schema={"user_id": pl.String, "history": pl.List(pl.String)}).write_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path):
    if path.suffix == ".parquet":
        return pl.read_parquet(path).to_dicts()
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_titles_and_ids_several_at_once(url, client):
    arguments = ("--history", "genre 1 number 1", "item-7", "--exclude", "GENRE 1 number 13", "item-19", "--k", "3")
    status, out, err = recommend("--url", url, *arguments)
    assert (status, err) == (0, "")
    answer = client.recommend(["item-1", "item-7"], k=3, exclude=["item-13", "item-19"])
    assert [line.split()[0] for line in out.splitlines()] == ["1", "2", "3"]
    for line, item_id, title in zip(out.splitlines(), answer.ids, answer.titles, strict=True):
        assert line.endswith(f"{item_id}  {title}") or line.split()[2:] == [item_id, *title.split()]


def test_titles_and_ids_control_no_terminal(capsys):
    answer = Recommendations(("\x1b[2Ja", "bb"), (2.0, 1.0), ("\x1b]0;owned\x07one", "two\nlines"), (), "1", 1.0)
    print_table(answer)
    assert capsys.readouterr().out == "   1     2.000   a  one\n   2     1.000  bb  two lines\n"


def test_json_is_for_pipes(url, client, shop_config):
    path = shop_config.export.repository / "student" / "1" / "vocabulary.json"
    status, out, _ = recommend("--url", url, "--vocabulary", path, "--history", "item-1", "--k", "2", "--json")
    answer, found = client.recommend(["item-1"], k=2), json.loads(out)
    assert status == 0
    assert [tuple(item.values()) for item in found["items"]] == list(zip(answer.ids, answer.scores, answer.titles, strict=True))
    assert (found["unknown_ids"], found["model_version"]) == ([], "1")
    assert found["latency_ms"] > 0


def test_near_misses_are_suggested(url):
    status, out, err = recommend("--url", url, "--history", "genre 1 nubmer 1", "--exclude", "item-7")
    assert (status, out) == (1, "")
    assert "found 'genre 1 nubmer 1', expected the id or the title of an item" in err
    assert "item-1 (genre 1 number 1)" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--k", "21"], "found k = 21, expected 1 to 20"),
        (["--input", "in.parquet"], "--input and --output belong together"),
        (["--input", "in.parquet", "--output", "out.parquet", "--history", "a"], "go with neither --history"),
        (["--input", "in.parquet", "--output", "out.csv"], "out.csv: found the suffix '.csv', expected .parquet or .jsonl"),
        (["--metadata", "key"], "--metadata: found 'key', expected KEY=VALUE"),
        (["--tls-ca", "none.pem"], "none.pem: cannot be read"),
    ],
)
def test_what_cannot_be_asked(url, arguments, message):
    result = CliRunner().invoke(app, ["recommend", "--url", url, *arguments])
    assert result.exit_code == 1
    assert isinstance(result.exception, DistilRecError)
    assert message in str(result.exception)


def test_a_token_comes_from_the_environment(url):
    # This server asks for none; that one in plain text to a stranger is warned of shows that it is read.
    token = {"DISTILREC_TOKEN": "secret"}
    assert recommend("--url", url, "--metadata", "x-team=shop", "--k", "1", **token)[0] == 0
    status, _, err = recommend("--url", "stranger.invalid:1", "--timeout-s", "0.3", "--k", "1", **token)
    assert status == 1
    assert "the token of DISTILREC_TOKEN goes to stranger.invalid:1 unencrypted" in err
    assert "secret" not in err


@pytest.mark.parametrize("source", ["in.parquet", "in.jsonl"])
@pytest.mark.parametrize("output", ["out.parquet", "out.jsonl"])
def test_whole_files(url, client, item_ids, tmp_path, source, output):
    rows = users(item_ids, 150)
    rows[3]["history"] = [*rows[3]["history"], "nobody"]
    arguments = ("--input", write_users(tmp_path / source, rows), "--output", tmp_path / output, "--k", "4")
    status, out, err = recommend("--url", url, *arguments)
    assert status == 0, err
    assert "150 rows, 0 of them failed" in out
    assert err == ""  # no bar where stderr is no terminal, and no line of progress for a short file
    found = read(tmp_path / output)
    assert [row["user_id"] for row in found] == [row["user_id"] for row in rows]
    assert {row["error"] for row in found} == {None}
    for place in (0, 3, 77, 149):
        answer = client.recommend(rows[place]["history"], k=4)
        assert found[place]["item_ids"] == list(answer.ids)
        assert found[place]["scores"] == pytest.approx(answer.scores)
        assert (found[place]["unknown_ids"], found[place]["model_version"]) == (["nobody"] if place == 3 else [], "1")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source, output])


def test_rows_that_fail_are_listed_and_harm_no_other(url, item_ids, tmp_path):
    rows = users(item_ids, 40)
    for place in range(12):
        rows[place]["history"] = None if place % 2 else [item_ids[0], None]
    arguments = ("--input", write_users(tmp_path / "in.parquet", rows), "--output", tmp_path / "out.jsonl")
    status, out, err = recommend("--url", url, *arguments)
    assert status == 1
    assert "40 rows, 12 of them failed" in out
    assert "failed: u1: history: found None, expected a sequence of item ids" in err
    assert err.count("failed: u") == 10
    assert "failed: 2 more" in err
    found = read(tmp_path / "out.jsonl")
    assert [bool(row["error"]) for row in found] == [True] * 12 + [False] * 28
    assert all(row["item_ids"] is None if row["error"] else len(row["item_ids"]) == 10 for row in found)


def test_what_each_row_excludes(client, tmp_path):
    best = list(client.recommend([], k=3).ids)
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"history": []}) + "\n" + json.dumps({"history": [], "exclude": best}) + "\n")
    recommend_file(client, path, tmp_path / "out.jsonl", 3, **SILENT)
    first, second = read(tmp_path / "out.jsonl")
    assert (first["row"], first["item_ids"], second["row"]) == (1, best, 2)
    assert not set(second["item_ids"]) & set(best)


@pytest.mark.parametrize("name", ["in.parquet", "in.jsonl"])
def test_an_empty_file(client, tmp_path, name):
    done = recommend_file(client, write_users(tmp_path / name, []), tmp_path / "out.parquet", **SILENT)
    assert (done.rows, done.failed, done.model_versions) == (0, 0, [])
    assert "item_ids" in pl.read_parquet(tmp_path / "out.parquet").columns


def test_input_and_output_are_two_files(client, item_ids, tmp_path):
    path = write_users(tmp_path / "in.parquet", users(item_ids, 3))
    with pytest.raises(DataError, match="the same file"):
        recommend_file(client, path, path)
    assert len(read(path)) == 3


def test_another_k_starts_again_and_says_so(client, item_ids, tmp_path):
    path, said = write_users(tmp_path / "in.parquet", users(item_ids, 30)), []
    folder = tmp_path / "out.parquet.parts"
    folder.mkdir()
    (folder / "state.json").write_text("{}")
    recommend_file(client, path, tmp_path / "out.parquet", 2, report=said.append)
    assert "starting again" in said[0]
    assert "k" in said[0]
    assert {len(row["item_ids"]) for row in read(tmp_path / "out.parquet")} == {2}


def killed_after_the_first_parts(process, folder, stop):
    until = time.monotonic() + 50
    while not (folder / "part-000001.parquet").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.002)
    stop()
    return process.communicate(timeout=60)


def test_interrupted_and_resumed_gives_the_same_rows(url, client, item_ids, tmp_path):
    source = write_users(tmp_path / "in.jsonl", users(item_ids, 4 * PART_ROWS - 7))
    whole, resumed = tmp_path / "whole.parquet", tmp_path / "resumed.parquet"
    process = start("--url", url, "--input", source, "--output", resumed)
    killed_after_the_first_parts(process, tmp_path / "resumed.parquet.parts", process.kill)
    assert process.returncode == -signal.SIGKILL
    assert not resumed.exists()
    said = []
    recommend_file(client, source, resumed, report=said.append)
    assert len(said) == 1
    assert "going on after" in said[0]
    recommend_file(client, source, whole, **SILENT)
    assert resumed.read_bytes() == whole.read_bytes()
    assert len(read(whole)) == 4 * PART_ROWS - 7


def test_a_server_that_dies_leaves_finished_parts_and_says_how_to_go_on(client, item_ids, shop_config, tmp_path):
    source = write_users(tmp_path / "in.parquet", users(item_ids, 5 * PART_ROWS))
    output = tmp_path / "out.parquet"
    with TritonServer(shop_config.export.repository, free_ports(), tmp_path / "log") as server:
        process = start("--url", server.url, "--input", source, "--output", output, "--timeout-s", "2")
        _, err = killed_after_the_first_parts(process, tmp_path / "out.parquet.parts", server.stop)
    assert process.returncode == 1, err
    assert f"of {5 * PART_ROWS} rows are done and kept in {output}.parts; start the same command again" in err
    assert "Traceback" not in err
    said = []
    done = recommend_file(client, source, output, report=said.append)  # another server, the same model
    assert "going on after" in said[0]
    assert (done.rows, done.failed) == (5 * PART_ROWS, 0)
    assert [row["user_id"] for row in read(output)] == [f"u{n}" for n in range(5 * PART_ROWS)]


def test_no_server_at_all(item_ids, tmp_path):
    path = write_users(tmp_path / "in.parquet", users(item_ids, 3))
    with RecommenderClient("127.0.0.1:9", timeout_s=0.5) as client, pytest.raises(ClientError):
        recommend_file(client, path, tmp_path / "out.parquet")
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.parquet"]
