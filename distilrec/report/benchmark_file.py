"""The result file of ``pytest --benchmark-only``: what was measured, and what could not be measured, with the reason."""

import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from distilrec.core.errors import DataError


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ModelBenchmark(_Record):
    """Request times of one model at one batch size."""

    model: str
    """Name of the timed model, such as ``teacher-torch`` or ``student-onnx-int8``."""
    batch: int
    p50_ms: float
    p90_ms: float | None = None
    p99_ms: float | None = None
    low_ms: float
    """Time of the fastest request."""
    size_bytes: int
    resident_bytes: int
    """Memory of a process that runs only this model."""
    ndcg: float | None = Field(default=None, alias="ndcg@10")
    ndcg_low: float | None = Field(default=None, alias="ndcg@10_low")
    ndcg_high: float | None = Field(default=None, alias="ndcg@10_high")
    retention: float | None = None

    @field_validator("model")
    @classmethod
    def _present_name(cls, name: str) -> str:
        """Results of earlier versions, which exported no other student, call the exported one "distilled"."""
        return re.sub("^distilled-(?=onnx-|tensorrt-)", "student-", name)


class ServingBenchmark(_Record):
    """Request times of one served model at a fixed number of requests in flight."""

    model: str
    concurrency: int
    """Requests in flight."""
    requests_per_s: float
    p50_ms: float
    p99_ms: float | None = None
    server_ms: float
    queue_ms: float
    compute_infer_ms: float
    client_side_ms: float
    mean_batch_size: float


class ScaleBenchmark(_Record):
    """Request time of an untrained student of a given size, next to the least time that this machine allows."""

    items: int
    history: int
    batch: int
    precision: str
    p50_ms: float
    limit_ms: float
    """Least time of a request on this machine."""
    times_limit: float
    """``p50_ms`` as a multiple of ``limit_ms``."""
    size_bytes: int
    size_of_fp32: float
    """Size on disk as a share of the FP32 model's."""


class TrainingBenchmark(_Record):
    """Speed of a training."""

    who: str
    """Name of the trained model."""
    examples_per_s: float
    seconds_an_epoch: float
    cache_bytes: int | None = None
    """Size of the soft targets; None for a training without them."""


class BenchmarkMachine(_Record):
    """Machine and software on which the benchmarks ran."""

    processor: str
    cpu_features: tuple[str, ...]
    cores: int
    gpu: str | None
    versions: dict[str, str]


class BenchmarkFile(_Record):
    """All results of one run of the benchmarks."""

    measured_at: str
    commit: str
    machine: BenchmarkMachine
    artefact_digest: str
    """Digest of the measured export."""
    not_run: dict[str, str]
    """Reason why a benchmark did not run, by the benchmark's name."""
    models: tuple[ModelBenchmark, ...]
    serving: tuple[ServingBenchmark, ...]
    scale: tuple[ScaleBenchmark, ...]
    training: tuple[TrainingBenchmark, ...]

    def model(self, name: str, batch: int = 1) -> ModelBenchmark | None:
        """Return the times of a model at a batch size, or None if it was not timed."""
        return next((row for row in self.models if row.model == name and row.batch == batch), None)


def read_benchmark_file(path: Path) -> BenchmarkFile:
    """Read a pytest-benchmark JSON file of DistilRec's suites, either whole or as ``benchmarks.record`` keeps it.

    Raises:
        DataError: The file does not exist, or it is not a result of DistilRec's benchmarks.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        commit = content["commit_info"]
        return BenchmarkFile.model_validate(
            {
                "measured_at": content["datetime"],
                "commit": commit["id"] + (" with uncommitted changes" if commit["dirty"] else ""),
                "machine": content["machine_info"],
                "artefact_digest": content["artefact"]["digest"],
                "not_run": content["not_run"],
            }
            | {field: _results_of_suite(content, suite) for field, suite in _SUITES.items()}
        )
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected the result of benchmarks. Make it with: pytest --benchmark-only") from None
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise DataError(
            f"{path}: not a result of DistilRec's benchmarks: {error!r}. Make it again with: pytest --benchmark-only"
        ) from error


_SUITES = {"models": "model", "serving": "serving", "scale": "scale", "training": "training"}
"""Name of each suite in the file, by the field of ``BenchmarkFile`` that holds its results."""


def _results_of_suite(content: dict[str, Any], suite: str) -> list[dict[str, Any]]:
    entries = [entry for entry in content["benchmarks"] if entry["extra_info"].get("suite") == suite]
    return [entry["extra_info"] | {"low_ms": entry["stats"]["min"] * 1000} for entry in entries]
