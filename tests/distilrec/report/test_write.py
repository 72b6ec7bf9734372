"""`distilrec report` on the tiny shop: both forms hold all parts, and the command writes both files."""

import dataclasses
import html
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from distilrec.cli.app import app
from distilrec.config import spec_of_run
from distilrec.data.dataset import held_out
from distilrec.data.stage import load
from distilrec.data.vocabulary import Vocabulary
from distilrec.pipeline.folders import run_dir
from distilrec.report.content import MeasurementFiles, read_report_content
from distilrec.report.headline import findings, headline_numbers, summary_sentence
from distilrec.report.html import render_html
from distilrec.report.markdown import render_markdown
from distilrec.report.side_by_side import ExampleUser, ShownItem, with_titles
from distilrec.report.write import write_report
from distilrec.tuning.preset import write_preset

EVIL = '<script>alert("title")</script> | *stars* & Co'
CONTROL = "\x1b]0;owned\x07\x1b[2J"


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


def test_titles_are_text(report_content):
    shown = (ShownItem(EVIL, right=True, of_teacher=True), ShownItem("plain", right=False, of_teacher=False))
    example = ExampleUser((EVIL,), 1, (EVIL,), {EVIL: shown})
    evil = dataclasses.replace(report_content, run=EVIL, examples=(example,))
    page = render_html(evil)
    assert "<script" not in page
    assert html.escape(EVIL, quote=False) in page.replace("&#34;", '"')
    assert "\\<script\\>" in render_markdown(evil)


@pytest.mark.usefixtures("evaluated_shop")
def test_titles_are_shown_without_control_sequences(shop_config):
    dataset, vocabulary = load(run_dir(shop_config) / "data")
    titles = tuple(f"{CONTROL}{title}" for title in vocabulary.titles)
    users = held_out(dataset, "test", spec_of_run(shop_config, dataset.item_count))
    answers = {"teacher": np.arange(1, 11, dtype=np.int32)[None]}
    (example,) = with_titles(users, np.array([0]), answers, Vocabulary(vocabulary.item_ids, titles))
    shown = [*example.newest, *example.truth, *(item.title for item in example.lists["teacher"])]
    assert len(shown) >= 12
    assert all(title in vocabulary.titles for title in shown)


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
