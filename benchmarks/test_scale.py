"""Growth of request time with catalogue, history and batch: an untrained student over random items, and the machine's limits.

The time does not depend on the values of the weights. Each model is timed alone, on one thread, and its table stays in the
processor's cache if it fits, as on a machine that serves one model. The limit of a request is the longer of reading the item table
once, at the speed measured for that many bytes, and the float32 products of the batch with it. For INT8 only the reading counts,
because products of bytes are not measured.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.limits import gemm_gflop_per_s, least_ms, read_gb_per_s
from benchmarks.timing import time_requests
from distill.models.encoders import Recommender
from distill.models.item_table import ItemTable
from distill.models.students.mlp import MlpStudentConfig
from distilrec.config import CalibrationConfig
from distilrec.core.specs import Precision, RecommenderSpec, table_rows
from export.artefact import model_path, model_size_bytes
from export.graph.calibration import CalibrationSet
from export.graph.onnx import export_onnx
from export.graph.onnx_runner import OnnxRunner
from export.graph.precisions import Quantization, make_precisions

CATALOGUES, HISTORIES, BATCHES = (10_000, 100_000, 1_000_000), (10, 50, 200), (1, 8, 64)
_MIDDLE_CATALOGUE, _MIDDLE_HISTORY = CATALOGUES[1], HISTORIES[1]
_CASES = [(items, _MIDDLE_HISTORY, batch) for items in CATALOGUES for batch in BATCHES]
_CASES += [(_MIDDLE_CATALOGUE, length, 1) for length in HISTORIES if length != _MIDDLE_HISTORY]
_STUDENT = MlpStudentConfig()
_WIDTH = _STUDENT.embedding_size
_BYTES = {Precision.FP32: 4, Precision.INT8: 1}
"""Bytes of a number in the item table."""
_EXCLUDE_LENGTH, _TOP_K = 128, 100
_REQUESTS = 128
"""Number of different requests: two of the largest batches."""
_BUDGET_S = 0.5


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @cache
    def make(item_count: int, history_length: int) -> tuple[Path, RecommenderSpec]:
        spec = RecommenderSpec(item_count, history_length, _EXCLUDE_LENGTH, _TOP_K)
        torch.manual_seed(0)
        student = _STUDENT.build(ItemTable(item_count, _WIDTH), history_length)
        folder = tmp_path_factory.mktemp(f"items-{item_count}")
        path = model_path(folder, Precision.FP32)
        path.parent.mkdir()
        export_onnx(Recommender(student.eval(), spec).eval(), path, {})
        assert not make_precisions(folder, Quantization(requests(spec), CalibrationConfig()))
        return folder, spec

    return make


@pytest.fixture(scope="module")
def reading() -> Any:
    return cache(read_gb_per_s)


@pytest.fixture(scope="module")
def multiplying() -> float:
    return gemm_gflop_per_s()


def requests(spec: RecommenderSpec) -> CalibrationSet:
    random = np.random.default_rng(0)
    history = random.integers(1, spec.item_count + 1, (_REQUESTS, spec.history_length), dtype=np.int32)
    return CalibrationSet(history, np.zeros((len(history), spec.exclude_length), np.int32), "")


@pytest.mark.parametrize("precision", list(_BYTES), ids=lambda precision: precision.value)
@pytest.mark.parametrize(("items", "history", "batch"), _CASES, ids=str)
def test_scale(
    benchmark: Any, models: Any, reading: Any, multiplying: float, items: int, history: int, batch: int, precision: Precision
) -> None:
    folder, spec = models(items, history)
    table_bytes = table_rows(items) * _WIDTH * _BYTES[precision]
    flop = 2 * table_rows(items) * _WIDTH * batch if precision is Precision.FP32 else 0
    limit_ms = least_ms(table_bytes, reading(table_bytes), flop, multiplying)
    benchmark.group = f"scale, {items:,} items, history {history}, batch {batch}"
    time_requests(benchmark, OnnxRunner(model_path(folder, precision), spec), requests(spec), batch, budget_s=_BUDGET_S)
    benchmark.extra_info |= {
        "suite": "scale",
        "items": items,
        "history": history,
        "precision": precision.value,
        "size_bytes": model_size_bytes(folder, precision),
        "size_of_fp32": model_size_bytes(folder, precision) / model_size_bytes(folder, Precision.FP32),
        "read_gb_per_s": reading(table_bytes),
        "gemm_gflop_per_s": multiplying,
        "limit_ms": limit_ms,
        "times_limit": benchmark.extra_info["p50_ms"] / limit_ms,
    }
