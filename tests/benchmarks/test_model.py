"""The suite ``model`` on an export folder alone, as ``pytest --benchmark-only --artefact`` runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distilrec.core.manifest import read_manifest
from distilrec.report.benchmark_file import read_benchmark_file

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def result(shop_run, tmp_path_factory) -> Path:
    """Result of the suite ``model`` at batch 1 on the tiny shop's export."""
    path = tmp_path_factory.mktemp("benchmarks") / "result.json"
    options = ["--benchmark-only", "--artefact", shop_run / "export", "--benchmark-json", path, "-k", "batch-1", "-q"]
    command = [sys.executable, "-m", "pytest", "benchmarks/test_model.py", "-p", "no:cacheprovider", *options]
    # The tests themselves may run in several processes, in which pytest-benchmark refuses to measure.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    return path


def test_result_says_where_of_what_and_what_could_not_run(result, shop_run):
    content = json.loads(result.read_text())
    machine, manifest = content["machine_info"], read_manifest(shop_run / "export")
    assert "node" not in machine
    assert machine["cores"] >= 1
    assert {"onnxruntime", "tritonclient", "numpy"} <= set(machine["versions"])
    assert content["artefact"]["digest"] == manifest.digest
    assert content["artefact"]["files"]["fp32/model.onnx"] == manifest.files["fp32/model.onnx"].sha256
    assert content["commit_info"]["id"]
    assert "--artefact names an export folder alone" in content["not_run"]["test_model[teacher-torch-batch-1]"]
    assert "test_model[student-tensorrt-int8-batch-1]" in content["not_run"]


def test_rows_hold_what_was_measured_of_each_precision(result, shop_run):
    found, report = read_benchmark_file(result), json.loads((shop_run / "export" / "report.json").read_text())
    assert [row.model for row in found.models] == [f"student-onnx-{name}" for name in ("fp32", "fp16", "int8")]
    for row in found.models:
        exported = report["precisions"][row.model.rpartition("-")[2]]
        assert row.ndcg == exported["ndcg"]
        assert row.size_bytes == exported["size_bytes"]
        assert row.retention is None  # An export folder alone has no teacher to compare with.
        assert 0 < row.low_ms <= row.p50_ms <= row.p90_ms
        # A process with ONNX Runtime and without PyTorch.
        assert 20e6 < row.resident_bytes < 250e6
