"""How INT8 pays as the catalogue grows: one request of an untrained student over random items, one thread.

Time does not depend on what the weights are. Each model is timed alone, with its table in the cache if it fits there, as on a box
that serves one model.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.encoders import Recommender
from distill.item_table import ItemTable
from distill.students.mlp import MlpStudent
from distilrec.config import CalibrationConfig, StudentConfig
from distilrec.specs import Precision, RecommenderSpec
from export.calibration import CalibrationSet
from export.onnx import export_onnx
from export.onnx_runner import OnnxRunner
from export.precisions import Quantization, make_precisions
from export.storage import model_path, model_size_bytes


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @cache
    def make(item_count: int) -> tuple[Path, RecommenderSpec]:
        settings, spec = StudentConfig(), RecommenderSpec(item_count, history_length=50, exclude_length=128, top_k=100)
        torch.manual_seed(0)
        items = ItemTable(item_count, settings.embedding_size)
        student = MlpStudent(items, spec.history_length, settings.hidden_size, settings.decays, settings.dropout)
        folder = tmp_path_factory.mktemp(f"items-{item_count}")
        path = model_path(folder, Precision.FP32)
        path.parent.mkdir()
        export_onnx(Recommender(student.eval(), spec).eval(), path, {})
        assert not make_precisions(folder, Quantization(CalibrationSet(*requests(spec), ""), CalibrationConfig()))
        return folder, spec

    return make


def requests(spec: RecommenderSpec) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    history = random.integers(1, spec.item_count + 1, (64, spec.history_length), dtype=np.int32)
    return history, np.zeros((64, spec.exclude_length), np.int32)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("item_count", [10_000, 100_000, 1_000_000])
def test_head(benchmark: Any, models: Any, item_count: int, batch: int, precision: Precision) -> None:
    folder, spec = models(item_count)
    runner = OnnxRunner(model_path(folder, precision), spec)
    history, exclude = requests(spec)
    benchmark.group = f"{item_count:,} items, batch {batch}"
    benchmark.extra_info["size_bytes"] = model_size_bytes(folder, precision)
    benchmark.extra_info["size_of_fp32"] = model_size_bytes(folder, precision) / model_size_bytes(folder, Precision.FP32)
    benchmark(runner.recommend, history[:batch], exclude[:batch])
