"""What several files share: for the report the evaluated shop and a result of benchmarks that fits it, for tuning its settings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distilrec.config import Config, parse_config
from distilrec.core.manifest import read_manifest
from distilrec.pipeline.evaluate import evaluate
from distilrec.pipeline.finished import served_artefact
from distilrec.report.content import MeasurementFiles, read_report_content


def _row(name: str, seconds: float, **extra: Any) -> dict[str, Any]:
    return {"name": name, "stats": {"min": seconds * 0.9}, "extra_info": extra}


def _content(digest: str) -> dict[str, Any]:
    """A result as ``pytest --benchmark-only`` leaves it, of made-up times."""
    times = {"teacher-torch": 6.0, "undistilled-onnx": 0.11, "student-onnx-fp32": 0.12, "student-onnx-int8": 0.1}
    rows = []
    for model, ms in times.items():
        for batch in (1, 8):
            extra = {"suite": "model", "model": model, "batch": batch, "p50_ms": ms * batch, "p90_ms": ms * batch * 1.2}
            judged = {
                "ndcg@10": 0.1 + ms / 100,
                "ndcg@10_low": 0.09,
                "ndcg@10_high": 0.17,
                "size_bytes": 5000,
                "resident_bytes": 9e7,
            }
            rows.append(_row(f"test_model[{model}]", ms / 1000, **extra, **judged))
    for model, ms in (("identity", 0.5), ("student", 0.6)):
        for concurrency in (1, 32):
            server = {"server_ms": 0.3, "queue_ms": 0.1, "compute_infer_ms": 0.1, "client_side_ms": 0.2, "mean_batch_size": 1.5}
            extra = {"suite": "serving", "model": model, "concurrency": concurrency, "requests_per_s": concurrency / ms}
            rows.append(_row("test_serving", ms / 1000, **extra, p50_ms=ms, **server))
    for items in (10_000, 100_000):
        for precision, size in (("fp32", 1.0), ("int8", 0.28)):
            extra = {"suite": "scale", "items": items, "history": 50, "batch": 1, "precision": precision, "size_of_fp32": size}
            limits = {"p50_ms": items / 1e5, "limit_ms": items / 2e5, "times_limit": 2.0, "size_bytes": items * 256}
            rows.append(_row("test_scale", 1.0, **extra, **limits))
    rows.append(_row("test_student", 1.0, suite="training", who="student, distilled", examples_per_s=1e4, seconds_an_epoch=3.0))
    machine = {"processor": "A CPU", "cpu_features": ["avx2"], "cores": 2, "gpu": None, "versions": {"numpy": "1"}}
    return {
        "datetime": "2026-01-01T00:00:00",
        "commit_info": {"id": "abc123", "dirty": False},
        "machine_info": machine,
        "artefact": {"digest": digest},
        "not_run": {"test_model[student-tensorrt-int8]": "no CUDA GPU here to run the engine on"},
        "benchmarks": rows,
    }


@pytest.fixture(scope="session")
def benchmark_content() -> Callable[[str], dict[str, Any]]:
    """Makes the content of a result for an export's digest."""
    return _content


@pytest.fixture(scope="module")
def evaluated_shop(shop_run, shop_config):
    """The tiny shop's run, evaluated; the tests work beside its runs folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shop_run.parent.parent)
        evaluate(shop_config, "test")
        yield shop_run


@pytest.fixture(scope="module")
def measured(evaluated_shop, shop_config, benchmark_content, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("benchmarks") / "benchmark.json"
    path.write_text(json.dumps(benchmark_content(read_manifest(evaluated_shop / served_artefact(shop_config).name).digest)))
    return path


@pytest.fixture(scope="module")
def report_content(measured, shop_config):
    return read_report_content(shop_config, MeasurementFiles(benchmarks=measured))


def _tune_config(tune: str = "", rest: str = "") -> Config:
    return parse_config(f'name = "x"\n{rest}\n[data]\nsource = "ml-100k"\n[tune]\n{tune}', where="x", folder=Path())


@pytest.fixture(scope="session")
def tune_config() -> Callable[..., Config]:
    """Makes settings out of the lines of section ``tune``, and of sections before it."""
    return _tune_config
