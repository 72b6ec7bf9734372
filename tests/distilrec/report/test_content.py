"""What a report reads of the tiny shop, and which files it refuses or leaves out."""

import json
import shutil
from pathlib import Path

import pytest

from distilrec.core.errors import DataError, ManifestError
from distilrec.core.manifest import read_manifest
from distilrec.pipeline.stages import served_artefact
from distilrec.report.content import MeasurementFiles, read_report_content


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
