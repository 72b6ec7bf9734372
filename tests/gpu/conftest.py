"""A tiny random student in all precisions, for the GPU that is present. Written from documentation: no run on a GPU is recorded."""

import importlib.util

import numpy as np
import onnx
import pytest
import torch

from distill.models.encoders import Recommender
from distill.models.item_table import ItemTable
from distill.models.students.mlp import MlpStudent
from distilrec.config import CalibrationConfig, EngineConfig
from distilrec.core.specs import Precision, RecommenderSpec
from distilrec.data.vocabulary import Vocabulary

SPEC = RecommenderSpec(item_count=1003, history_length=20, exclude_length=16, top_k=100)
ROWS = 150


def pytest_collection_modifyitems(items):
    """Skip this folder's tests where they cannot run. Those that train, or run ONNX Runtime, need no TensorRT."""
    has_tensorrt = any(importlib.util.find_spec(name) for name in ("tensorrt", "tensorrt_rtx"))
    for item in items:
        if item.path.parent.name != "gpu":
            continue
        if not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA GPU that PyTorch can use"))
        elif "plans" in item.fixturenames and not has_tensorrt:
            reason = "no TensorRT: pip install 'distilrec[tensorrt]' or 'distilrec[tensorrt-rtx]'"
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def catalogue():
    """Vocabulary of the student's items."""
    ids = tuple(f"item-{index}" for index in range(1, SPEC.item_count + 1))
    return Vocabulary(ids, ids)


@pytest.fixture(scope="session")
def vocabulary(catalogue):
    """Digest of the vocabulary that all models and plans are for."""
    return catalogue.sha256


@pytest.fixture(scope="session")
def spec():
    return SPEC


@pytest.fixture(scope="session")
def student():
    torch.manual_seed(0)
    model = MlpStudent(
        ItemTable(SPEC.item_count, 32, popularity=torch.randn(SPEC.item_count)), SPEC.history_length, 64, (1.0, 0.5), 0.2
    )
    with torch.no_grad():
        model.items.learned.mul_(20)  # scores that differ by more than FP16 rounds
    model.items.fold()
    return model.eval()


@pytest.fixture(scope="session")
def requests():
    """Edge requests, then random ones: int32 [R, L] and [R, E]."""
    from distilrec.evaluation.parity import edge_requests

    random = np.random.default_rng(0)
    history = random.integers(1, SPEC.item_count + 1, (ROWS, SPEC.history_length), dtype=np.int32)
    for row in range(ROWS):
        history[row, : random.integers(0, SPEC.history_length)] = 0
    exclude = random.integers(0, SPEC.item_count + 1, (ROWS, SPEC.exclude_length), dtype=np.int32)
    edges = edge_requests(SPEC)
    return np.concatenate([edges[0], history]), np.concatenate([edges[1], exclude])


@pytest.fixture(scope="session")
def models(student, requests, vocabulary, tmp_path_factory):
    """ONNX files by precision, INT8 in TensorRT's form."""
    from export.graph.calibration import CalibrationSet, activation_ranges
    from export.graph.fp16 import to_fp16
    from export.graph.int8 import Form, to_int8
    from export.graph.layers import weight_layers
    from export.graph.onnx import export_onnx

    folder = tmp_path_factory.mktemp("models")
    paths = {precision: folder / f"{precision.value}.onnx" for precision in Precision}
    export_onnx(Recommender(student, SPEC).eval(), paths[Precision.FP32], {"vocabulary_sha256": vocabulary})
    fp32 = onnx.load(paths[Precision.FP32])
    onnx.save(to_fp16(fp32), paths[Precision.FP16])
    tensors = sorted({layer.activation for layer in weight_layers(fp32.graph) if layer.activation})
    ranges = activation_ranges(fp32, tensors, CalibrationSet(*requests, vocabulary), CalibrationConfig())
    onnx.save(to_int8(fp32, ranges, Form.TENSORRT), paths[Precision.INT8])
    return paths


@pytest.fixture(scope="session")
def plans(models, vocabulary, tmp_path_factory):
    """Plans by precision, built for the GPU that is present."""
    from export.engines.backends import find_backend
    from export.engines.build import build_engine
    from export.engines.plan import this_device

    folder = tmp_path_factory.mktemp("plans")
    backend = find_backend("auto")
    capability = this_device(backend).compute_capability
    if (
        backend.capabilities.builds_without_gpu
        and f"SM{capability.replace('.', '')}" not in backend.module.ComputeCapability.__members__
    ):
        pytest.skip(f"{backend.label} {backend.version} does not run on compute capability {capability}")
    config = EngineConfig(max_batch_size=64, compute_capabilities=(capability,))
    for precision, model in models.items():
        plan = folder / f"{precision.value}.plan"
        build_engine(model, plan, SPEC, precision=precision, vocabulary_sha256=vocabulary, backend=backend, config=config)
    return {precision: folder / f"{precision.value}.plan" for precision in models}
