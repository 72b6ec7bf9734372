"""What `make demo` prints, against a real server."""

import pytest

from distilrec.cli.demo import run_demo
from distilrec.pipeline.comparison import compare_models, comparison_table

pytestmark = pytest.mark.server


@pytest.fixture
def _in_work_dir(shop_run, monkeypatch):
    monkeypatch.chdir(shop_run.parent.parent)


@pytest.mark.usefixtures("_in_work_dir")
def test_every_hop_is_measured_and_none_loses_anything_after_the_student(shop_config, shop_server):
    rows = {row.name: row for row in compare_models(shop_config, shop_server.url).rows}
    assert list(rows) == [
        "teacher (PyTorch)",
        "student, no teacher",
        "student, distilled",
        "student, ONNX FP32",
        "student, ONNX FP16",
        "student, ONNX INT8",
        "student, through Triton (gRPC, FP32)",
    ]
    distilled, onnx, fp16, int8, served = list(rows.values())[2:]
    assert int8.size_bytes < onnx.size_bytes
    assert abs(fp16.ndcg - onnx.ndcg) < 0.02
    assert (onnx.ndcg, onnx.hit_rate) == (served.ndcg, served.hit_rate) == (distilled.ndcg, distilled.hit_rate)
    assert all(0 < row.ndcg < row.hit_rate < 1 and row.p50_ms > 0 for row in rows.values())
    assert distilled.parameters < rows["teacher (PyTorch)"].parameters
    table = comparison_table(list(rows.values())).splitlines()
    assert len(table) == 9
    assert {line.count("|") for line in table} == {7}


@pytest.mark.usefixtures("_in_work_dir")
def test_demo_shows_titles_and_the_table_and_stops_its_server(shop_config):
    said: list[str] = []
    run_demo(shop_config, said.append)
    text = "\n".join(said)
    assert text.count("genre ") >= 20  # ten titles of the history and ten recommended
    assert "| student, through Triton (gRPC, FP32) | 0." in text
    assert "240 held-out users of shop" in text
    assert "Student: WARNING, the student that ranks worse ships: the distilled student ships" in text
    assert "Precision: fp32 ships: the settings ask for it." in text
    assert "ended cleanly" in text
