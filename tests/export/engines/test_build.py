"""Real builds, without a GPU: for the compute capabilities in the settings of TensorRT for RTX."""

import importlib.util
import os
import signal
import threading
from dataclasses import replace
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch

from distill.models.encoders import Recommender
from distill.models.item_table import ItemTable
from distill.models.students.mlp import MlpStudent
from distilrec.config import CalibrationConfig, EngineConfig
from distilrec.core.errors import EngineError, PrecisionError
from distilrec.core.manifest import sha256_of_file
from distilrec.core.specs import Precision, RecommenderSpec
from distilrec.data.item_filters import build_filters
from export.engines.backends import find_backend
from export.engines.build import add_profile, build_engine
from export.engines.inspection import constant_products, prove_precision
from export.engines.plan import CalibrationRecord, check_plan, manifest_path, read_plan_manifest, this_device
from export.engines.runner import EngineRunner
from export.graph.calibration import CalibrationSet, activation_ranges
from export.graph.fp16 import to_fp16
from export.graph.int8 import Form, to_int8
from export.graph.layers import weight_layers
from export.graph.onnx import export_onnx
from export.graph.shared_weights import save_sharing_weights

pytestmark = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed")

SPEC = RecommenderSpec(item_count=203, history_length=12, exclude_length=16, top_k=20)
VOCABULARY = "a" * 64
TYPES = {Precision.FP32: "Float", Precision.FP16: "Half", Precision.INT8: "Int8"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A tiny random student's ONNX files by precision; INT8 with its weights in a file of their own."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    student = MlpStudent(ItemTable(SPEC.item_count, 16), SPEC.history_length, 32, (1.0, 0.5), 0.2).eval()
    paths = {precision: folder / precision.value / "model.onnx" for precision in Precision}
    for path in paths.values():
        path.parent.mkdir()
    export_onnx(Recommender(student, SPEC).eval(), paths[Precision.FP32], {})
    fp32 = onnx.load(paths[Precision.FP32])
    onnx.save(to_fp16(fp32), paths[Precision.FP16])

    random = np.random.default_rng(0)
    requests = [random.integers(1, SPEC.item_count + 1, (64, *tensor.shape), dtype=np.int32) for tensor in SPEC.inputs]
    tensors = sorted({layer.activation for layer in weight_layers(fp32.graph) if layer.activation})
    ranges = activation_ranges(fp32, tensors, CalibrationSet(*requests, VOCABULARY), CalibrationConfig())
    save_sharing_weights({"model.onnx": to_int8(fp32, ranges, Form.TENSORRT)}, paths[Precision.INT8].parent)
    return paths


@pytest.fixture(scope="module")
def backend():
    return find_backend("tensorrt_rtx")


@pytest.fixture
def build(models, backend, tmp_path):
    def run(precision=Precision.FP32, model=None, spec=SPEC, config=None, **facts):
        return build_engine(
            model or models[precision],
            tmp_path / "student.plan",
            spec,
            precision=precision,
            vocabulary_sha256=VOCABULARY,
            backend=backend,
            config=config or EngineConfig(),
            **facts,
        )

    return run


@pytest.mark.pipeline
@pytest.mark.parametrize("precision", list(Precision))
def test_plan_is_built_with_its_precision_proved(build, models, tmp_path, precision):
    calibration = CalibrationRecord(method="minmax", sha256="c" * 64) if precision is Precision.INT8 else None
    manifest = build(precision, calibration=calibration)
    plan = tmp_path / "student.plan"
    assert manifest == read_plan_manifest(plan)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["student.plan", "student.plan.json"]
    assert (manifest.plan_sha256, manifest.plan_size_bytes) == (sha256_of_file(plan), plan.stat().st_size)
    assert manifest.onnx_sha256 == sha256_of_file(models[precision])
    assert len(manifest.product_types) == 3
    assert set(manifest.product_types.values()) == {TYPES[precision]}
    assert list(manifest.table_types.values()) == [TYPES[precision]]  # INT8 keeps no second table of floats for the look-up
    assert (manifest.spec, manifest.precision, manifest.opset) == (SPEC, precision, 20)
    assert manifest.compute_capabilities == ("8.6", "8.9", "12.0")
    assert manifest.flags == ("STRONGLY_TYPED",)  # not TF32, which would not be FP32
    assert [tensor.name for tensor in manifest.tensors] == ["history", "exclude", "items", "scores"]
    assert manifest.calibration == calibration
    assert manifest.gpu_name is None


@pytest.mark.pipeline
def test_external_weights_are_read_and_recorded(build, models):
    manifest = build(Precision.INT8)
    assert manifest.weights_sha256 == {"weights.bin": sha256_of_file(models[Precision.INT8].parent / "weights.bin")}
    assert build(Precision.FP32).weights_sha256 == {}


@pytest.mark.parametrize("target", ["8.6", "8.9", "12.0"])
@pytest.mark.parametrize("precision", list(Precision))
def test_plan_is_built_for_a_single_compute_capability(build, precision, target):
    assert build(precision, config=EngineConfig(compute_capabilities=(target,))).compute_capabilities == (target,)


@pytest.mark.pipeline
@pytest.mark.parametrize("precision", list(Precision))
def test_two_builds_are_equal_up_to_the_order_of_outputs(build, tmp_path, precision):
    """TensorRT for RTX 1.7 writes one of two plans, at random: with the items before the scores or after them."""
    contents = set()
    for _ in range(6):
        build(precision)
        contents.add((tmp_path / "student.plan").read_bytes())
    assert len(contents) <= 2
    assert len({len(content) for content in contents}) == 1


def test_one_plan_for_many_compute_capabilities_is_as_large_as_for_one(build):
    one = build(config=EngineConfig(compute_capabilities=("8.6",)))
    assert build().plan_size_bytes < 1.01 * one.plan_size_bytes


def test_built_plan_passes_its_check_when_the_device_fits(build, backend, tmp_path):
    manifest = build()
    device = replace(this_device(backend), gpu_name="NVIDIA L4", compute_capability="8.9")
    assert check_plan(tmp_path / "student.plan", SPEC, VOCABULARY, device) == manifest


@pytest.mark.usefixtures("former")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_runner_says_so_when_there_is_no_gpu(tmp_path):
    with pytest.raises(EngineError, match="found no CUDA GPU, expected one"):
        EngineRunner(tmp_path / "student.plan", SPEC, VOCABULARY)


@pytest.fixture
def former(build, tmp_path):
    """Asserts that a failed build leaves the plan and the manifest that were there, and nothing else."""

    def content():
        return {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".onnx"}

    build()
    before = content()
    yield
    assert content() == before


@pytest.mark.usefixtures("former")
@pytest.mark.parametrize(("actual", "claimed"), list(permutations(Precision, 2)))
def test_engine_is_refused_when_it_is_not_in_the_precision_it_claims(build, models, actual, claimed):
    with pytest.raises(PrecisionError, match=f"expected operands of type {TYPES[claimed]}") as caught:
        build(claimed, model=models[actual])
    assert str(caught.value).count(f": {TYPES[actual]}") == 3


@pytest.mark.usefixtures("former")
def test_engine_is_refused_when_one_layer_stayed_in_fp32(build, models, tmp_path):
    fp32 = onnx.load(models[Precision.FP32])
    ranges = {layer.activation: 4.0 for layer in weight_layers(fp32.graph) if layer.activation}
    onnx.save(to_int8(fp32, ranges, Form.TENSORRT, leave=["scorer.mlp.1.weight"]), tmp_path / "model.onnx")
    with pytest.raises(PrecisionError, match="expected operands of type Int8") as caught:
        build(Precision.INT8, model=tmp_path / "model.onnx")
    assert str(caught.value).count(": Float") == 1


@pytest.mark.usefixtures("former")
@pytest.mark.parametrize(("content", "match"), [("half", "cannot read it"), ("empty", "found tensors"), ("none", "cannot read it")])
def test_build_fails_with_the_file_when_the_onnx_is_broken(build, models, tmp_path, content, match):
    path = tmp_path / "model.onnx"
    whole = models[Precision.FP32].read_bytes()
    if content != "none":
        path.write_bytes(whole[: len(whole) // 2] if content == "half" else b"")
    with pytest.raises(EngineError, match=f"model.onnx: .*{match}"):
        build(model=path)


@pytest.mark.usefixtures("former")
def test_build_fails_with_the_node_when_an_operator_is_not_supported(build, models, tmp_path):
    model = onnx.load(models[Precision.FP32])
    node = next(node for node in model.graph.node if node.op_type == "ScatterElements")
    node.op_type = "Bernoulli"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(EngineError, match=rf"node {node.name} \(Bernoulli\)"):
        build(model=tmp_path / "model.onnx")


@pytest.mark.usefixtures("former")
def test_build_fails_with_the_file_when_external_weights_are_missing(build, models, tmp_path):
    alone = tmp_path / "model.onnx"
    alone.write_bytes(models[Precision.INT8].read_bytes())
    with pytest.raises(EngineError, match=r"weights\.bin"):
        build(Precision.INT8, model=alone)


@pytest.mark.usefixtures("former")
def test_build_fails_when_the_compiler_refuses_the_graph(build):
    with pytest.raises(EngineError, match=r"(?s)cannot build an engine of it.*Turing"):
        build(config=EngineConfig(compute_capabilities=("7.5",)))


def test_build_stops_when_it_is_interrupted(build, tmp_path):
    def interrupted():
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()
        for _ in range(100):
            build(Precision.INT8)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert signal.getsignal(signal.SIGINT) is before
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.usefixtures("former")
def test_build_fails_when_the_model_is_of_another_spec(build):
    with pytest.raises(EngineError, match=r"found tensors .*expected .*13"):
        build(spec=replace(SPEC, history_length=13))


@pytest.mark.parametrize(
    ("spec", "config", "match"),
    [
        (replace(SPEC, top_k=3841), EngineConfig(), "found top_k 3841, expected at most 3840"),
        (SPEC, EngineConfig(hardware_compatible=True), "found hardware_compatible = true, expected false"),
        (SPEC, EngineConfig(version_compatible=True), "found version_compatible = true, expected false"),
        (SPEC, EngineConfig(compute_capabilities=("8.6", "9.0")), r"capabilities 9\.0, expected some of .*12\.0"),
    ],
)
def test_build_is_refused_before_it_starts_when_the_settings_cannot_be_used(build, tmp_path, spec, config, match):
    with pytest.raises(EngineError, match=match):
        build(model=tmp_path / "is-not-even-read.onnx", spec=spec, config=config)
    assert not manifest_path(tmp_path / "student.plan").exists()


def test_precision_is_not_proved_when_a_product_is_not_among_the_layers(models):
    products = constant_products(onnx.load(models[Precision.INT8], load_external_data=False))
    assert sorted(products.values()) == [(16, 208), (32, 16), (48, 32)]
    with pytest.raises(PrecisionError, match="no such layer"):
        prove_precision([], products, Precision.INT8)
    with pytest.raises(PrecisionError, match="found no product with a constant matrix"):
        prove_precision([], {}, Precision.INT8)


def test_profile_that_tensorrt_refuses_is_an_error():
    """``add_optimization_profile`` answers -1 where the profile is no valid one."""
    builder = SimpleNamespace(create_optimization_profile=lambda: SimpleNamespace(set_shape=lambda *_: None))
    with pytest.raises(EngineError, match="found batches of 1, 8, 64 refused by TensorRT"):
        add_profile(builder, SimpleNamespace(add_optimization_profile=lambda _: -1), SPEC, EngineConfig())


@pytest.mark.pipeline
@pytest.mark.parametrize("precision", list(Precision))
def test_plan_of_a_model_whose_requests_choose(build, tmp_path, precision):
    """Filters, lists, repeats and similar items are a part of the engine, and its products keep their precision."""
    filters = build_filters({"category": [[f"category {item % 9}"] for item in range(SPEC.item_count)]})
    spec = replace(SPEC, filter_length=4, allow_length=5, repeats=True, similar=True)
    torch.manual_seed(0)
    student = MlpStudent(ItemTable(SPEC.item_count, 16), SPEC.history_length, 32, (1.0, 0.5), 0.2).eval()
    path = tmp_path / "model.onnx"
    export_onnx(Recommender(student, spec, filters).eval(), path, {})
    fp32 = onnx.load(path)
    ranges = {layer.activation: 1.0 for layer in weight_layers(fp32.graph) if layer.activation}
    graphs = {Precision.FP16: to_fp16, Precision.INT8: lambda model: to_int8(model, ranges, Form.TENSORRT)}
    onnx.save(graphs.get(precision, lambda model: model)(fp32), path)
    manifest = build(precision, path, spec)
    assert manifest.spec == spec
    assert [tensor.name for tensor in manifest.tensors][2:6] == ["filter", "allow", "repeats", "similar"]
    assert set(manifest.product_types.values()) == {TYPES[precision]}
    assert read_plan_manifest(tmp_path / "student.plan") == manifest
