"""`distilrec report` on the tiny shop: it says what the files say, and what was not measured."""

import dataclasses
import html
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from distilrec.cli.app import app
from distilrec.core.errors import DataError, ManifestError
from distilrec.core.manifest import read_manifest
from distilrec.pipeline.stages import served_artefact
from distilrec.report.content import MeasurementFiles, read_report_content
from distilrec.report.headline import findings, headline_numbers, summary_sentence
from distilrec.report.html import render_html
from distilrec.report.markdown import render_markdown
from distilrec.report.side_by_side import ExampleUser, ShownItem
from distilrec.report.write import write_report
from distilrec.tuning.preset import write_preset

EVIL = '<script>alert("title")</script> | *stars* & Co'


def shares(found: dict[str, Any]) -> list[str]:
    return [f"{(1 + found[name]) * 100:.1f}\N{NO-BREAK SPACE}%" for name in ("relative", "relative_low", "relative_high")]


def test_headline_is_what_the_files_say(report_content):
    everybody = json.loads(Path("runs/shop/evaluation/evaluation.json").read_text())["evaluation"]["everybody"]
    mean, low, high = shares(everybody["differences"]["teacher (PyTorch)"]["distilled, ONNX FP32"]["ndcg@10"])
    kept, faster, smaller = headline_numbers(report_content)
    assert kept.value == mean
    assert f"{low} to {high}" in kept.note
    assert faster.value == "50x"  # 6 ms of the teacher, 0.12 of what is served
    assert "0.12 instead of 6 ms" in faster.note
    assert "teacher in PyTorch" in faster.note
    sizes = json.loads(Path("runs/shop/evaluation/evaluation.json").read_text())["size_bytes"]
    assert float(smaller.value[:-1]) == pytest.approx(sizes["teacher (PyTorch)"] / sizes["distilled, ONNX FP32"], rel=0.1)
    assert mean in summary_sentence(report_content)
    assert "50 times faster" in summary_sentence(report_content)


def test_speed_is_compared_in_one_runtime_where_that_was_timed(report_content):
    eager = report_content.benchmarks.model("teacher-torch")
    exported = eager.model_copy(update={"model": "teacher-onnx", "p50_ms": 2.4})
    benchmarks = report_content.benchmarks.model_copy(update={"models": (*report_content.benchmarks.models, exported)})
    _, faster, _ = headline_numbers(dataclasses.replace(report_content, benchmarks=benchmarks))
    assert faster.value == "20x"
    assert "both in ONNX Runtime; 50x against the teacher in PyTorch" in faster.note


def test_both_forms_hold_all_parts(report_content):
    page, text = html.unescape(render_html(report_content)), render_markdown(report_content)
    for words in (
        "A CPU",
        "abc123",
        "no CUDA GPU here",
        "10,000 examples/s",
        "plan: free",
        summary_sentence(report_content),
        *findings(report_content),
    ):
        assert words in page
        assert words in text or words == "plan: free"  # slices are drawn, and stand in evaluation.md
    assert page.count("<svg") == 5  # Pareto, slices, spreads, throughput, growth by catalogue
    assert text.count("\n## ") >= 9


@pytest.mark.usefixtures("evaluated_shop")
def test_what_was_not_measured_has_no_number(shop_config):
    bare = read_report_content(shop_config, MeasurementFiles())
    kept, faster, _ = headline_numbers(bare)
    assert faster.value == "not measured"
    assert kept.value.endswith("%")
    assert "faster" not in summary_sentence(bare)
    page = render_html(bare)
    assert "pytest --benchmark-only" in page
    assert "How it grows" not in page
    assert any("Peers were not measured" in reason for reason in bare.missing)


@pytest.mark.usefixtures("evaluated_shop")
def test_measurements_of_another_export_are_left_out_or_refused(shop_config, benchmark_content, tmp_path):
    path = tmp_path / "benchmark.json"
    path.write_text(json.dumps(benchmark_content("another")))
    with pytest.raises(DataError, match=r"found measurements of export another, expected"):
        read_report_content(shop_config, MeasurementFiles(benchmarks=path))
    usual = Path("runs/shop/benchmark.json")
    shutil.copyfile(path, usual)
    try:
        found = read_report_content(shop_config, MeasurementFiles())
    finally:
        usual.unlink()
    assert found.benchmarks is None
    assert any("left out" in reason for reason in found.missing)


@pytest.mark.parametrize("content", ["", "[]", '{"benchmarks": []}'])
@pytest.mark.usefixtures("evaluated_shop")
def test_files_of_something_else_are_refused(shop_config, tmp_path, content):
    path = tmp_path / "some.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"some\.json: not a result of DistilRec's benchmarks"):
        read_report_content(shop_config, MeasurementFiles(benchmarks=path))


@pytest.mark.usefixtures("evaluated_shop")
def test_evaluation_of_another_export_is_refused(shop_config):
    folder = Path("runs/shop/evaluation")
    kept = (folder / "manifest.json").read_text()
    digest = read_manifest(served_artefact(shop_config)).digest
    try:
        (folder / "manifest.json").write_text(kept.replace(digest, "0" * 64))
        with pytest.raises(ManifestError, match="Evaluate the run: distilrec evaluate --preset shop"):
            read_report_content(shop_config, MeasurementFiles())
    finally:
        (folder / "manifest.json").write_text(kept)


def test_titles_are_text(report_content):
    shown = (ShownItem(EVIL, right=True, of_teacher=True), ShownItem("plain", right=False, of_teacher=False))
    example = ExampleUser((EVIL,), 1, (EVIL,), {EVIL: shown})
    evil = dataclasses.replace(report_content, run=EVIL, examples=(example,))
    page = render_html(evil)
    assert "<script" not in page
    assert html.escape(EVIL, quote=False) in page.replace("&#34;", '"')
    assert "\\<script\\>" in render_markdown(evil)


def test_load_and_peers_are_shown_if_given(measured, shop_config, tmp_path):
    latency = {"p50_ms": 1.5, "p90_ms": 2.0, "p99_ms": 4.25, "p99_9_ms": None}
    probes = [
        {
            "rate_per_s": rate,
            "achieved_rate_per_s": rate,
            "requests": {"answered": 10, "failed": 0},
            "latency": latency,
            "client_bottleneck": False,
        }
        for rate in (100.0, 200.0)
    ]
    load, peers = tmp_path / "load.json", tmp_path / "peers.json"
    load.write_text(json.dumps({"search": {"probes": probes}}))
    contenders = {
        "student": {"seconds_per_request": 0.00012, "ratio": 1.0, "ratio_p10": 1.0, "ratio_p90": 1.0},
        "ALS": {"seconds_per_request": 0.00321, "ratio": 26.8, "ratio_p10": 25.11, "ratio_p90": 27.22},
        "SASRec": {"not_measured": "no numpy 2"},
    }
    peers.write_text(json.dumps({"reference": "student", "contenders": contenders}))
    page = render_html(read_report_content(shop_config, MeasurementFiles(measured, load, peers)))
    assert "Latency by rate of requests" in page
    for words in ("4.25", "3.21", "27x", "25.11 to 27.22", "not measured: no numpy 2"):
        assert words in page


@pytest.mark.usefixtures("evaluated_shop")
def test_command_writes_both_files(shop_config, measured, tmp_path):
    write_preset(tmp_path / "shop.toml", shop_config, "")
    options = ["--preset", str(tmp_path / "shop.toml"), "--benchmarks", str(measured), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["report", *options], catch_exceptions=False)
    assert result.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "report.md"]
    assert write_report(shop_config, MeasurementFiles()).as_posix() == "runs/shop/report/report.html"
