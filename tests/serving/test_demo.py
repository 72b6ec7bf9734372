"""What `make demo` prints, and what `distilrec recommend` says, against a real server."""

import json
import subprocess
import sys

import pytest

from distilrec.comparison import compare_hops, markdown_table
from distilrec.demo import run_demo


@pytest.fixture
def _in_work_dir(shop_run, monkeypatch):
    monkeypatch.chdir(shop_run.parent.parent)


@pytest.mark.usefixtures("_in_work_dir")
def test_every_hop_is_measured_and_none_loses_anything_after_the_student(shop_config, shop_server):
    rows = {row.name: row for row in compare_hops(shop_config, shop_server.url).rows}
    assert list(rows) == [
        "teacher (PyTorch)",
        "student, no teacher",
        "student, distilled",
        "distilled, ONNX FP32",
        "distilled, ONNX FP16",
        "distilled, ONNX INT8",
        "distilled, through Triton (gRPC, FP32)",
    ]
    distilled, onnx, fp16, int8, served = list(rows.values())[2:]
    assert int8.size_bytes < onnx.size_bytes
    assert abs(fp16.ndcg - onnx.ndcg) < 0.02
    assert (onnx.ndcg, onnx.hit_rate) == (served.ndcg, served.hit_rate) == (distilled.ndcg, distilled.hit_rate)
    assert all(0 < row.ndcg < row.hit_rate < 1 and row.p50_ms > 0 for row in rows.values())
    assert distilled.parameters < rows["teacher (PyTorch)"].parameters
    table = markdown_table(list(rows.values())).splitlines()
    assert len(table) == 9
    assert {line.count("|") for line in table} == {7}


@pytest.mark.usefixtures("_in_work_dir")
def test_demo_shows_titles_and_the_table_and_stops_its_server(shop_config):
    said: list[str] = []
    run_demo(shop_config, said.append)
    text = "\n".join(said)
    assert text.count("genre ") >= 20  # ten titles of the history and ten recommended
    assert "| distilled, through Triton (gRPC, FP32) | 0." in text
    assert "240 held-out users of shop" in text
    assert "Precision: fp32 ships: the settings ask for it." in text
    assert "ended cleanly" in text


def distilrec_recommend(shop_config, shop_server, *arguments):
    command = [sys.executable, "-m", "distilrec.cli", "recommend", "--url", shop_server.url]
    command += ["--repository", str(shop_config.export.repository), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_recommend_prints_titles_and_counts_unknown_ids(shop_config, shop_server):
    result = distilrec_recommend(shop_config, shop_server, "--history", "item-1", "--history", "nope", "--k", "3")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 3
    assert "genre " in result.stdout
    assert result.stderr.strip() == "warning: 1 unknown id(s) left out: nope"


def test_recommend_prints_json(shop_config, shop_server):
    result = distilrec_recommend(shop_config, shop_server, "--history", "item-1", "--k", "2", "--json")
    rows = json.loads(result.stdout)
    assert [set(row) for row in rows] == [{"item_id", "score", "title"}] * 2
    assert rows[0]["score"] >= rows[1]["score"]


def test_recommend_refuses_k_beyond_the_model(shop_config, shop_server):
    result = distilrec_recommend(shop_config, shop_server, "--k", "21")
    assert result.returncode == 1
    assert "found k = 21, expected 1 to 20" in result.stderr
