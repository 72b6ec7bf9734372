"""The benchmarks on an export folder alone, as ``pytest --benchmark-only --artefact`` runs them, and their calculations."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tritonclient.grpc import service_pb2

from benchmarks.limits import least_ms
from benchmarks.provenance import cpu_features
from benchmarks.timing import quantiles_ms
from benchmarks.wire_load import server_side
from distilrec.config import load_config
from distilrec.core.manifest import read_manifest
from distilrec.report.benchmark_file import read_benchmark_file

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def result(shop_run, tmp_path_factory) -> Path:
    """Result of the suite ``model`` at batch 1 on the tiny shop's export."""
    path = tmp_path_factory.mktemp("benchmarks") / "result.json"
    options = ["--benchmark-only", "--artefact", shop_run / "export", "--benchmark-json", path, "-k", "batch-1", "-q"]
    command = [sys.executable, "-m", "pytest", "benchmarks/test_model.py", "-p", "no:cacheprovider", *options]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False
    )
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
    assert "test_model[distilled-tensorrt-int8-batch-1]" in content["not_run"]


def test_rows_hold_what_was_measured_of_each_precision(result, shop_run):
    found, report = read_benchmark_file(result), json.loads((shop_run / "export" / "report.json").read_text())
    assert [row.model for row in found.models] == [f"distilled-onnx-{name}" for name in ("fp32", "fp16", "int8")]
    for row in found.models:
        exported = report["precisions"][row.model.rpartition("-")[2]]
        assert row.ndcg == exported["ndcg"]
        assert row.size_bytes == exported["size_bytes"]
        assert row.retention is None  # nobody has compared with a teacher here
        assert 0 < row.low_ms <= row.p50_ms <= row.p90_ms
        # A process with ONNX Runtime and without PyTorch.
        assert 20e6 < row.resident_bytes < 250e6


def test_plain_pytest_runs_no_benchmark():
    # This suite imports no PyTorch, so that it is collected in a moment.
    command = [sys.executable, "-m", "pytest", "benchmarks/test_promotion.py", "-q", "-rs", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == 0
    assert "1 skipped" in done.stdout
    assert "benchmarks run with: pytest --benchmark-only" in done.stdout


def test_least_time_is_the_longer_of_reading_and_multiplying():
    assert least_ms(20_000_000, 20.0) == pytest.approx(1.0)
    assert least_ms(20_000_000, 20.0, flop=3e8, gflop_s=100.0) == pytest.approx(3.0)
    assert least_ms(20_000_000, 20.0, flop=1e7, gflop_s=100.0) == pytest.approx(1.0)


def test_quantiles_are_left_out_where_too_few_were_timed():
    assert quantiles_ms([0.001 * second for second in range(1, 101)]) == pytest.approx(
        {"p50_ms": 50.5, "p90_ms": 90.1, "p99_ms": 99.01}
    )
    assert set(quantiles_ms([0.001] * 20)) == {"p50_ms", "p90_ms"}


def test_cpu_features_are_those_that_count(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags : fpu sse avx2 fma avx512_vnni\n\nprocessor : 1\nflags : fpu\n")
    assert cpu_features(cpuinfo) == ["avx2", "fma", "avx512_vnni"]
    assert cpu_features(tmp_path / "missing") == []


def statistics(requests: int, executions: int, batches: dict[int, int], **ns: int) -> service_pb2.ModelStatistics:
    found = service_pb2.ModelStatistics(inference_count=requests, execution_count=executions)
    for part, total in ns.items():
        getattr(found.inference_stats, part).count, getattr(found.inference_stats, part).ns = requests, total
    for size, count in batches.items():
        found.batch_stats.add(batch_size=size).compute_infer.count = count
    return found


def test_server_side_is_the_difference_of_two_readings():
    before = statistics(10, 10, {1: 10}, success=50_000_000, queue=1_000_000, compute_infer=30_000_000)
    after = statistics(30, 16, {1: 12, 4: 4}, success=90_000_000, queue=21_000_000, compute_infer=40_000_000)
    found = server_side(before, after)
    assert found["server_ms"] == pytest.approx(2.0)
    assert found["queue_ms"] == pytest.approx(1.0)
    assert found["compute_infer_ms"] == pytest.approx(0.5)
    assert found["batch_sizes"] == {"1": 2, "4": 4}
    assert found["mean_batch_size"] == pytest.approx(20 / 6)


def test_run_with_a_text_teacher_is_the_demos_own_otherwise():
    demo, found = load_config("ml-100k"), load_config(str(ROOT / "benchmarks" / "ml-100k-text.toml"))
    assert set(found.teachers) - set(demo.teachers) == {"text"}
    assert found.student_teachers == demo.student_teachers
    alike = {"name": demo.name, "teachers": demo.teachers, "targets": demo.targets}
    assert found.model_copy(update=alike) == demo
    assert {name: found.teachers[name] for name in demo.teachers} == demo.teachers
    assert found.targets.model_copy(update={"weights": None}) == demo.targets
