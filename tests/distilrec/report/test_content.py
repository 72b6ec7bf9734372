"""What a report reads of the tiny shop, and which files it refuses or leaves out."""

import json
import shutil
from pathlib import Path

import pytest

from distilrec.core.errors import DataError, ManifestError
from distilrec.core.manifest import read_manifest
from distilrec.pipeline.finished import served_artefact
from distilrec.report.content import MeasurementFiles, read_report_content
from distilrec.report.html import render_html
from distilrec.report.markdown import render_markdown
from distilrec.report.tables import cold


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


@pytest.mark.usefixtures("evaluated_shop")
def test_items_that_nobody_has_touched_are_shown_of_the_run_that_held_some_out(shop_config):
    content = json.loads(Path("runs/shop/evaluation/evaluation.json").read_text())
    content["cold"] = {"items": 9, "whole": content["evaluation"], "among": content["evaluation"]}
    folder = Path("runs/shop-cold/evaluation")
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps(content))
    try:
        found = read_report_content(shop_config, MeasurementFiles())
    finally:
        shutil.rmtree(folder.parent)
    assert read_report_content(shop_config, MeasurementFiles()).cold is None
    assert (found.cold.items, found.cold.users) == (9, found.evaluation.users)
    student = found.evaluation.models["student, distilled"]
    row = next(row for row in cold(found).rows if row[0] == "student, distilled")
    assert row[-2:] == (f"{student.quality.mean:.4f}", f"{student.hit_rate:.4f}")
    assert "All interactions of 9 items were held out" in render_html(found)
    assert "## Items that nobody has touched" in render_markdown(found)
