from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distill.models.teachers.load import load_teacher
from distilrec.config import ExportConfig, load_config
from distilrec.core.errors import ManifestError, RepositoryError
from distilrec.core.manifest import read_manifest
from distilrec.core.specs import Precision, RecommenderSpec
from distilrec.data import stage as data_stage
from export.graph.onnx_runner import OnnxRunner
from export.repository.benchmark_models import fill_benchmark_models
from export.repository.config import Facts, render_front_door, render_student
from export.repository.fill import MODELS, artefact_spec, fill_repository
from export.stage import recommender_spec

COMMITTED = Path(__file__).parents[3] / "triton_repo"
FACTS = Facts(RecommenderSpec(10, 4, 3, 5), "abc", Precision.INT8)


def test_committed_config_is_what_the_default_preset_renders(tmp_path):
    config = load_config("ml-100k")
    data_stage.run(config, {}, tmp_path / "data")
    _, vocabulary = data_stage.load(tmp_path / "data")
    for model in MODELS:
        # FP32 is what the demo's verdict is with a catalogue this small.
        facts = Facts(recommender_spec(config, len(vocabulary)), vocabulary.sha256, Precision.FP32)
        rendered = model.render(facts, config.export, 1)
        assert (COMMITTED / model.name / "config.pbtxt").read_text() == rendered


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_config_says_what_the_spec_says():
    text = render_student(FACTS, ExportConfig(max_batch_size=7, instances=3))
    model = text_format.Parse(text, model_config_pb2.ModelConfig())
    tensors = {t.name: (model_config_pb2.DataType.Name(t.data_type), list(t.dims)) for t in (*model.input, *model.output)}
    assert tensors == {
        "history": ("TYPE_INT32", [4]),
        "exclude": ("TYPE_INT32", [3]),
        "items": ("TYPE_INT32", [5]),
        "scores": ("TYPE_FP32", [5]),
    }
    assert model.name == "student"
    assert model.max_batch_size == 7
    assert model.instance_group[0].count == 3
    assert model.HasField("dynamic_batching")
    assert list(model.version_policy.specific.versions) == [1]
    assert model.parameters["vocabulary_sha256"].string_value == "abc"
    assert model.parameters["item_count"].string_value == "10"
    assert model.parameters["precision"].string_value == "int8"


def test_rendering_is_deterministic():
    assert render_student(FACTS, ExportConfig()) == render_student(FACTS, ExportConfig())


def test_filled_repository_is_complete_and_serves_the_committed_model(shop_run, tmp_path):
    config = ExportConfig(repository=tmp_path / "repo", exclude_length=16, top_k=20)
    fill_repository(shop_run / "export", config)
    assert files(config.repository) == [
        "recommend/1/model.onnx",
        "recommend/1/model.py",
        "recommend/1/vocabulary.json",
        "recommend/config.pbtxt",
        "student/1/golden.npz",
        "student/1/model.onnx",
        "student/1/model.py",
        "student/1/vocabulary.json",
        "student/config.pbtxt",
        "vocabulary/1/model.py",
        "vocabulary/1/vocabulary.json",
        "vocabulary/config.pbtxt",
    ]
    for model in MODELS:
        source = Path(model.name) / "1" / "model.py"
        assert (config.repository / source).read_text() == (COMMITTED / source).read_text()


def test_damaged_artefact_is_refused_and_the_repository_untouched(shop_run, tmp_path):
    import shutil

    artefact = tmp_path / "export"
    shutil.copytree(shop_run / "export", artefact)
    with (artefact / "fp32" / "model.onnx").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(ManifestError, match=r"model\.onnx: sha256"):
        fill_repository(artefact, ExportConfig(repository=tmp_path / "repo"))
    assert not (tmp_path / "repo").exists()


def test_repository_that_cannot_be_written(shop_run, tmp_path):
    (tmp_path / "repo").write_text("a file")
    with pytest.raises(RepositoryError, match="cannot be written"):
        fill_repository(shop_run / "export", ExportConfig(repository=tmp_path / "repo"))


def parsed(text):
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_target_onnxruntime_leaves_the_graph_to_tritons_own_backend(shop_run, tmp_path):
    config = ExportConfig(target="onnxruntime", repository=tmp_path / "repo")
    fill_repository(shop_run / "export", config)
    assert "student/1/model.onnx" in files(config.repository)
    assert "recommend/1/model.onnx" not in files(config.repository)
    student, front_door = (parsed((config.repository / name / "config.pbtxt").read_text()) for name in ("student", "recommend"))
    assert (student.backend, student.default_model_filename) == ("onnxruntime", "model.onnx")
    assert student.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU
    assert front_door.parameters["upstream"].string_value == "student"


@pytest.mark.parametrize(("accelerator", "names"), [("cuda", []), ("tensorrt", ["tensorrt"])])
def test_accelerators_of_onnxruntime_are_on_the_gpu(accelerator, names):
    model = parsed(render_student(FACTS, ExportConfig(target="onnxruntime", accelerator=accelerator)))
    assert [a.name for a in model.optimization.execution_accelerators.gpu_execution_accelerator] == names
    assert model.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU


def test_target_tensorrt_has_graphs_and_pinned_memory():
    model = parsed(render_student(FACTS, ExportConfig(target="tensorrt")))
    assert (model.platform, model.default_model_filename) == ("tensorrt_plan", "model.plan")
    assert model.optimization.cuda.graphs
    assert model.optimization.cuda.output_copy_stream
    assert model.optimization.input_pinned_memory.enable
    assert model.optimization.output_pinned_memory.enable
    assert parsed(render_front_door(FACTS, ExportConfig(target="tensorrt"))).backend == "python"


def test_target_tensorrt_without_an_engine_is_refused_and_nothing_is_left(shop_run, tmp_path):
    with pytest.raises(RepositoryError, match=r"found no engines/tensorrt/fp32\.plan.*export\.engines"):
        fill_repository(shop_run / "export", ExportConfig(target="tensorrt", repository=tmp_path / "repo"))
    assert files(tmp_path) == []


def test_instances_are_the_cores_found_unless_they_are_set():
    import os

    model = parsed(text := render_student(FACTS, ExportConfig()))
    assert model.instance_group[0].count == len(os.sched_getaffinity(0))
    assert "one for each core found" in text
    assert "3 instance(s), as the settings say" in render_student(FACTS, ExportConfig(instances=3))


def test_benchmark_models_are_of_this_artefact_or_gone(shop_run, shop_config, tmp_path):
    config = shop_config.export.model_copy(update={"repository": tmp_path / "repo"})
    fill_repository(shop_run / "export", config)
    fill_benchmark_models(load_teacher(shop_config, "sequence", shop_run / "teacher-sequence", 90), shop_run / "export", config)
    spec = artefact_spec(read_manifest(shop_run / "export"))
    assert OnnxRunner(tmp_path / "repo" / "teacher" / "1" / "model.onnx", spec)
    assert "identity/1/model.py" in files(config.repository)
    (tmp_path / "repo" / "identity" / "config.pbtxt").write_text('name: "identity"\nbackend: "of somebody else"\n')
    fill_repository(shop_run / "export", config)
    assert not (tmp_path / "repo" / "teacher").exists()
    assert (tmp_path / "repo" / "identity").exists()


def test_an_export_alone_has_the_idle_model_and_no_teacher(shop_run, shop_config, tmp_path):
    config = shop_config.export.model_copy(update={"repository": tmp_path / "repo"})
    fill_repository(shop_run / "export", config)
    fill_benchmark_models(None, shop_run / "export", config)
    assert "identity/1/model.py" in files(config.repository)
    assert not (tmp_path / "repo" / "teacher").exists()
