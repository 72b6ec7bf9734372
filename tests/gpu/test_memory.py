"""How much of the GPU's memory a table takes. Not run on a GPU yet."""

import numpy as np
import onnx
import pytest
import torch

from distill.models.encoders import Recommender
from distill.models.item_table import ItemTable
from distill.models.students.mlp import MlpStudent
from distilrec.config import CalibrationConfig, EngineConfig
from distilrec.core.specs import Precision, RecommenderSpec
from export.engines.backends import find_backend
from export.engines.build import build_engine
from export.engines.plan import this_device
from export.engines.runner import EngineRunner
from export.graph.calibration import CalibrationSet, activation_ranges
from export.graph.int8 import Form, to_int8
from export.graph.layers import weight_layers
from export.graph.onnx import export_onnx

pytestmark = pytest.mark.gpu

ITEMS, WIDTH = 1_000_000, 64
SPEC = RecommenderSpec(ITEMS, 20, 16, 100)


@pytest.mark.usefixtures("plans")  # they say whether TensorRT builds for this GPU
def test_int8_engine_keeps_no_second_table_of_floats(tmp_path, record_property):
    torch.manual_seed(0)
    student = MlpStudent(ItemTable(ITEMS, WIDTH), SPEC.history_length, 64, (1.0, 0.5), 0.2)
    student.items.fold()
    export_onnx(Recommender(student.eval(), SPEC).eval(), tmp_path / "fp32.onnx", {})
    fp32 = onnx.load(tmp_path / "fp32.onnx")
    random = np.random.default_rng(0)
    requests = [random.integers(1, ITEMS + 1, (64, *tensor.shape), dtype=np.int32) for tensor in SPEC.inputs]
    tensors = sorted({layer.activation for layer in weight_layers(fp32.graph) if layer.activation})
    ranges = activation_ranges(fp32, tensors, CalibrationSet(*requests, "v"), CalibrationConfig())
    onnx.save(to_int8(fp32, ranges, Form.TENSORRT), tmp_path / "int8.onnx")
    backend = find_backend("auto")
    config = EngineConfig(compute_capabilities=(this_device(backend).compute_capability,))
    facts = {"precision": Precision.INT8, "vocabulary_sha256": "v", "backend": backend, "config": config}
    manifest = build_engine(tmp_path / "int8.onnx", tmp_path / "student.plan", SPEC, **facts)

    torch.cuda.empty_cache()
    before, _ = torch.cuda.mem_get_info()
    runner = EngineRunner(tmp_path / "student.plan", SPEC, "v")
    runner.recommend(*requests)
    after, _ = torch.cuda.mem_get_info()
    taken = before - after - runner.device_memory_bytes
    record_property("type of the table that rows are looked up in", str(manifest.table_types))
    record_property(f"MiB of an INT8 engine of {ITEMS:,} items, without its context", taken / 2**20)
    assert taken < 3 * ITEMS * WIDTH  # a table of floats beside it would make it five times
