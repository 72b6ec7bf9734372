"""Real engines of every kind of student and form of the item table, in all precisions, built without a GPU."""

import importlib.util

import numpy as np
import onnx
import pytest
import torch

from distill.models.encoders import Recommender
from distill.models.students.build import build_student
from distilrec.config import CalibrationConfig, EngineConfig, StudentConfig
from distilrec.core.specs import Precision, RecommenderSpec
from export.engines.backends import find_backend
from export.engines.build import build_engine
from export.graph.calibration import CalibrationSet, activation_ranges
from export.graph.fp16 import to_fp16
from export.graph.int8 import Form, to_int8
from export.graph.layers import weight_layers
from export.graph.onnx import export_onnx

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed"),
]

TYPES = {Precision.FP32: "Float", Precision.FP16: "Half", Precision.INT8: "Int8"}
SIZES = {"embedding_size": 16, "hidden_size": 32}
STUDENTS = {kind: (kind, {}) for kind in sorted(StudentConfig.kinds) if kind != "mlp"}  # test_build.py builds that one
STUDENTS |= {"mlp with a low-rank table": ("mlp", {"table": "low_rank", "rank": 8})}


@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_has_an_engine_in_every_precision(name, shop_config, tmp_path):
    kind, table = STUDENTS[name]
    settings = StudentConfig.model_validate(shop_config.student.values_for(kind) | SIZES | table)
    torch.manual_seed(0)
    student = build_student(shop_config.model_copy(update={"student": settings}), 203, torch.zeros(203)).eval()
    student.items.fold()
    spec = RecommenderSpec(203, shop_config.history_length, 16, 20)
    models = precisions_of(Recommender(student, spec).eval(), spec, tmp_path)
    types = {}
    for precision, path in models.items():
        manifest = build_engine(
            path,
            tmp_path / "student.plan",
            spec,
            precision=precision,
            vocabulary_sha256="v",
            backend=find_backend("tensorrt_rtx"),
            config=EngineConfig(compute_capabilities=("8.9",)),
        )
        types[precision] = set(manifest.product_types.values())
        assert len(manifest.product_types) >= 2
    assert types == {precision: {TYPES[precision]} for precision in Precision}


def precisions_of(recommender, spec, folder):
    """ONNX files of a recommender by precision, INT8 in TensorRT's form."""
    paths = {precision: folder / f"{precision.value}.onnx" for precision in Precision}
    export_onnx(recommender, paths[Precision.FP32], {})
    fp32 = onnx.load(paths[Precision.FP32])
    onnx.save(to_fp16(fp32), paths[Precision.FP16])
    random = np.random.default_rng(0)
    requests = [random.integers(1, spec.item_count + 1, (64, *tensor.shape), dtype=np.int32) for tensor in spec.inputs]
    tensors = sorted({layer.activation for layer in weight_layers(fp32.graph) if layer.activation})
    ranges = activation_ranges(fp32, tensors, CalibrationSet(*requests, "v"), CalibrationConfig())
    onnx.save(to_int8(fp32, ranges, Form.TENSORRT), paths[Precision.INT8])
    return paths
