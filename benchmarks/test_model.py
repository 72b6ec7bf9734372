"""Request times of teacher and student in PyTorch, in ONNX Runtime and in each precision, on one thread.

Each result also has the model's ranking quality from the evaluation, its size, and the memory of a process that runs nothing else.
"""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import models
from benchmarks.memory import resident_bytes
from benchmarks.subject import CannotMeasureError, Subject
from benchmarks.timing import time_requests
from distilrec.core.errors import EngineError


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def resident() -> dict[str, int]:
    """Memory in bytes by model, so that it is measured once for all batch sizes."""
    return {}


@pytest.mark.parametrize("batch", [1, 8, 64], ids="batch-{}".format)
@pytest.mark.parametrize("name", models.NAMES)
def test_model(benchmark: Any, subject: Subject, scratch: Path, resident: dict[str, int], name: str, batch: int) -> None:
    try:
        model = models.find(name, subject, scratch)
        runner = model.load()
    except (CannotMeasureError, EngineError) as error:
        pytest.skip(str(error))
    if name not in resident:
        resident[name] = resident_bytes(model.load, subject.requests.history[:1], subject.requests.exclude[:1])
    benchmark.group = f"model, batch {batch}"
    benchmark.extra_info |= {"suite": "model", "model": name, "size_bytes": model.size_bytes, "resident_bytes": resident[name]}
    benchmark.extra_info |= {} if model.evaluated_as is None else subject.quality(model.evaluated_as)
    time_requests(benchmark, runner, subject.requests, batch)
