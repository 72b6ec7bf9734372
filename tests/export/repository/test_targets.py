"""What each serving target states in its configuration, ships and refuses. Configurations go through Triton's own messages."""

from dataclasses import replace

import pytest
from artefacts import with_precision_by_verdict
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distilrec.config import ExportConfig
from distilrec.core.errors import RepositoryError
from distilrec.core.manifest import FileRecord, Manifest
from distilrec.core.specs import Precision, RecommenderSpec
from export.artefact import plan_path
from export.engines.host import Gpu
from export.engines.plan import read_plan_manifest, write_plan_manifest
from export.repository.check import check_against_graph
from export.repository.config import ServedModelFacts
from export.repository.fill import fill_repository
from export.repository.models import render_front_door, render_student
from export.repository.target import manifest_for_target, serving_target
from export.repository.targets import onnxruntime_cuda, tensorrt

FACTS = ServedModelFacts(RecommenderSpec(10, 4, 3, 5), "abc", Precision.INT8)
GPU_TARGETS = ["onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt"]


def parsed(text):
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def options(model):
    (accelerator,) = model.optimization.execution_accelerators.gpu_execution_accelerator
    return accelerator.name, dict(accelerator.parameters)


def test_onnxruntime_with_cuda_runs_on_the_gpu():
    model = parsed(render_student(FACTS, ExportConfig(target="onnxruntime-cuda")))
    assert not model.optimization.execution_accelerators.gpu_execution_accelerator
    assert model.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU


def test_onnxruntime_with_tensorrt_has_one_profile_for_all_batches_and_a_lasting_cache():
    config = ExportConfig(target="onnxruntime-tensorrt", max_batch_size=32, engine={"workspace_mib": 512})
    model = parsed(render_student(FACTS, config))
    assert model.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    name, parameters = options(model)
    assert name == "tensorrt"
    assert parameters == {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": "/engines",
        "max_workspace_size_bytes": str(512 << 20),
        "trt_profile_min_shapes": "history:1x4,exclude:1x3",
        "trt_profile_opt_shapes": "history:8x4,exclude:8x3",
        "trt_profile_max_shapes": "history:32x4,exclude:32x3",
    }


def test_instances_on_a_cpu_share_one_session():
    model = parsed(render_student(FACTS, ExportConfig(target="onnxruntime", instances=3)))
    assert model.instance_group[0].count == 3
    assert model.parameters["share_session_between_instances"].string_value == "true"


def test_target_tensorrt_has_pinned_memory_and_its_own_copy_stream():
    model = parsed(render_student(FACTS, ExportConfig(target="tensorrt")))
    assert (model.platform, model.default_model_filename) == ("tensorrt_plan", "model.plan")
    assert model.optimization.cuda.graphs
    assert model.optimization.cuda.output_copy_stream
    assert model.optimization.input_pinned_memory.enable
    assert model.optimization.output_pinned_memory.enable
    assert parsed(render_front_door(FACTS, ExportConfig(target="tensorrt"))).backend == "python"


@pytest.mark.parametrize("largest", [1, 2, 48, 64])
def test_every_batch_has_exactly_one_cuda_graph(largest):
    model = parsed(render_student(FACTS, ExportConfig(target="tensorrt", max_batch_size=largest)))
    graphs = model.optimization.cuda.graph_spec
    for batch in range(1, largest + 1):
        fitting = [graph for graph in graphs if graph.graph_lower_bound.batch_size <= batch <= graph.batch_size]
        assert len(fitting) == 1
    assert max(graph.batch_size for graph in graphs) == largest
    for graph in graphs:  # shapes without the batch, as the message's documentation says
        for shapes in (graph.input, graph.graph_lower_bound.input):
            assert {name: list(shape.dim) for name, shape in shapes.items()} == {"history": [4], "exclude": [3]}


def manifest(*, wanted="auto", chosen="int8", measured=None, graphs=("fp32", "fp16", "int8")):
    """The manifest of an export on whose CPU ``chosen`` won."""
    metrics = {"precision": chosen} | ({} if measured is None else {"gpu_precisions": measured})
    files = {f"{name}/model.onnx": FileRecord(sha256="0", size_bytes=1) for name in graphs}
    return Manifest(
        stage="export", fingerprint="", settings={"precision": wanted}, seed=0, inputs={}, versions={}, files=files, metrics=metrics
    )


def served(target, manifest):
    return manifest_for_target(manifest, ExportConfig(target=target)).metrics["precision"]


@pytest.mark.parametrize("target", ["python", "onnxruntime"])
def test_target_on_a_cpu_serves_what_the_cpu_measured(target):
    assert served(target, manifest(measured={"tensorrt": "fp32"})) == "int8"


@pytest.mark.parametrize("target", GPU_TARGETS)
def test_target_on_a_gpu_serves_fp16_until_it_is_measured(target):
    assert served(target, manifest()) == "fp16"
    assert served(target, manifest(graphs=["fp32", "int8"])) == "fp32"  # FP16 could not be made
    assert served(target, manifest(measured={target: "fp32"})) == "fp32"


def test_measurement_of_one_target_says_nothing_of_another():
    measured = {"tensorrt": "int8"}
    assert served("tensorrt", manifest(chosen="fp32", measured=measured)) == "int8"
    assert served("onnxruntime-tensorrt", manifest(chosen="fp32", measured=measured)) == "fp16"


def test_precision_in_the_settings_is_served_everywhere():
    for target in ("python", *GPU_TARGETS):
        assert served(target, manifest(wanted="fp32", chosen="fp32", measured={target: "fp16"})) == "fp32"


def test_int8_is_refused_where_the_provider_would_make_the_whole_table_float():
    with pytest.raises(RepositoryError, match=r"found precision int8 for the target onnxruntime-cuda, expected one of fp16, fp32"):
        served("onnxruntime-cuda", manifest(wanted="int8"))


def test_unmeasured_target_ships_fp16_with_the_golden_answers_of_fp16(shop_run, unforced, tmp_path):
    config = ExportConfig(target="onnxruntime-tensorrt", repository=tmp_path / "repo")
    fill_repository(unforced, config)
    folder = config.repository / "student" / "1"
    for name in ("model.onnx", "golden.npz", "ranking.json"):
        assert (folder / name).read_bytes() == (shop_run / "export" / "fp16" / name).read_bytes()
    check_against_graph(folder.parent / "config.pbtxt", folder)
    assert parsed((folder.parent / "config.pbtxt").read_text()).parameters["precision"].string_value == "fp16"


@pytest.fixture
def unforced(shop_run, tmp_path):
    return with_precision_by_verdict(shop_run / "export", tmp_path / "export")


@pytest.mark.parametrize(("target", "graph"), [("onnxruntime", "model.onnx"), ("onnxruntime-tensorrt", "tensorrt.onnx")])
def test_int8_is_shipped_in_the_form_of_what_runs_it(shop_run, tmp_path, target, graph):
    """TensorRT refuses unsigned activations, and ONNX Runtime's own kernels are slow with signed ones."""
    serving_target(ExportConfig(target=target)).write(shop_run / "export", manifest(chosen="int8"), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "weights.bin"]
    assert (tmp_path / "model.onnx").read_bytes() == (shop_run / "export" / "int8" / graph).read_bytes()


@pytest.fixture
def artefact_with_plan(unforced):
    """An export with a plan that NVIDIA TensorRT 11.1 claims to have built; its content is one of TensorRT for RTX."""
    source, plan = (plan_path(unforced, backend, Precision.FP16) for backend in ("tensorrt_rtx", "tensorrt"))
    plan.parent.mkdir()
    plan.write_bytes(source.read_bytes())
    claimed = {"backend": "tensorrt", "backend_version": "11.1.0.106"}
    write_plan_manifest(plan, read_plan_manifest(source).model_copy(update=claimed))
    return unforced


def fit(artefact, release):
    config = ExportConfig(target="tensorrt", container=release)
    tensorrt.check_fit(artefact, manifest(chosen="fp16"), config)


def test_plan_for_another_tensorrt_is_refused_with_the_command_that_builds_the_right_one(artefact_with_plan, monkeypatch):
    monkeypatch.setattr(tensorrt, "find_gpu", lambda: None)
    fit(artefact_with_plan, "26.07")
    with pytest.raises(RepositoryError, match=r"TensorRT 11\.1\.0\.106, expected TensorRT 10\.x") as caught:
        fit(artefact_with_plan, "26.05")
    assert "deploy/export-in-container.sh 26.05 --preset PRESET" in str(caught.value)
    assert "Nothing was copied" in str(caught.value)


def test_old_driver_is_refused_before_anything_is_copied(artefact_with_plan, monkeypatch):
    old = Gpu("NVIDIA A10", "550.54.15", "8.6", 23028)
    for module in (tensorrt, onnxruntime_cuda):
        monkeypatch.setattr(module, "find_gpu", lambda: old)
    with pytest.raises(RepositoryError, match=r"found driver 550\.54\.15, expected 580\.65\.06 or newer"):
        fit(artefact_with_plan, "26.07")
    with pytest.raises(RepositoryError, match=r"found driver 550\.54\.15"):
        onnxruntime_cuda.check_gpu(artefact_with_plan, manifest(), ExportConfig(target="onnxruntime-tensorrt"))
    monkeypatch.setattr(onnxruntime_cuda, "find_gpu", lambda: replace(old, driver="580.95.05"))
    onnxruntime_cuda.check_gpu(artefact_with_plan, manifest(), ExportConfig(target="onnxruntime-tensorrt"))
