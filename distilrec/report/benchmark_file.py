"""What ``pytest --benchmark-only`` left, read back: only what was measured, and what could not be, with the reason."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distilrec.core.errors import DataError


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ModelRow(_Record):
    """A model, timed at a batch size."""

    model: str
    """Such as ``teacher-torch`` or ``distilled-onnx-int8``."""
    batch: int
    p50_ms: float
    p90_ms: float | None = None
    p99_ms: float | None = None
    low_ms: float
    """Fastest request."""
    size_bytes: int
    resident_bytes: int
    """Memory of a process with nothing else in it."""
    ndcg: float | None = Field(default=None, alias="ndcg@10")
    ndcg_low: float | None = Field(default=None, alias="ndcg@10_low")
    ndcg_high: float | None = Field(default=None, alias="ndcg@10_high")
    retention: float | None = None


class ServingRow(_Record):
    """A served model under so many requests in flight; all times are of one request."""

    model: str
    concurrency: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float | None = None
    server_ms: float
    queue_ms: float
    compute_infer_ms: float
    client_side_ms: float
    mean_batch_size: float


class ScaleRow(_Record):
    """An untrained student of a size, and what the machine can do at most."""

    items: int
    history: int
    batch: int
    precision: str
    p50_ms: float
    limit_ms: float
    times_limit: float
    size_bytes: int
    size_of_fp32: float


class TrainingRow(_Record):
    """A training."""

    who: str
    examples_per_s: float
    seconds_an_epoch: float
    cache_bytes: int | None = None


class Machine(_Record):
    """Where it was measured."""

    processor: str
    cpu_features: tuple[str, ...]
    cores: int
    gpu: str | None
    versions: dict[str, str]


class BenchmarkFile(_Record):
    """A whole result."""

    measured_at: str
    commit: str
    machine: Machine
    artefact_digest: str
    not_run: dict[str, str]
    """Reason by benchmark."""
    models: tuple[ModelRow, ...]
    serving: tuple[ServingRow, ...]
    scale: tuple[ScaleRow, ...]
    training: tuple[TrainingRow, ...]

    def model(self, name: str, batch: int = 1) -> ModelRow | None:
        """The row of a model at a batch size, if it was timed."""
        return next((row for row in self.models if row.model == name and row.batch == batch), None)


def read_benchmarks(path: Path) -> BenchmarkFile:
    """Read a pytest-benchmark JSON file of our suites, whole or stripped (``benchmarks.record``).

    Raises:
        DataError: it is none.
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
            | {name: _rows(content, suite) for name, suite in _SUITES.items()}
        )
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected the result of benchmarks. Make it with: pytest --benchmark-only") from None
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise DataError(
            f"{path}: not a result of DistilRec's benchmarks: {error!r}. Make it anew with: pytest --benchmark-only"
        ) from error


_SUITES = {"models": "model", "serving": "serving", "scale": "scale", "training": "training"}


def _rows(content: dict[str, Any], suite: str) -> list[dict[str, Any]]:
    found = [entry for entry in content["benchmarks"] if entry["extra_info"].get("suite") == suite]
    return [entry["extra_info"] | {"low_ms": entry["stats"]["min"] * 1000} for entry in found]
