from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distill.models.teachers.load import load_teacher
from distilrec.config import ExportConfig, spec_of_artefact
from distilrec.core.errors import ManifestError, RepositoryError
from distilrec.core.manifest import read_manifest
from export.graph.onnx_runner import OnnxRunner
from export.repository.benchmark_models import fill_benchmark_models
from export.repository.fill import fill_repository
from export.repository.models import MODELS

COMMITTED = Path(__file__).parents[3] / "triton_repo"


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_filled_repository_is_complete_and_serves_the_committed_model(shop_run, tmp_path):
    config = ExportConfig(repository=tmp_path / "repo", exclude_length=16, top_k=20)
    fill_repository(shop_run / "export", config)
    assert files(config.repository) == [
        "recommend/1/histories.py",
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


def test_target_tensorrt_without_an_engine_is_refused_and_nothing_is_left(shop_run, tmp_path):
    with pytest.raises(RepositoryError, match=r"found no engines/tensorrt/fp32\.plan.*export\.engines"):
        fill_repository(shop_run / "export", ExportConfig(target="tensorrt", repository=tmp_path / "repo"))
    assert files(tmp_path) == []


def test_benchmark_models_are_of_this_artefact_or_gone(shop_run, shop_config, tmp_path):
    config = shop_config.export.model_copy(update={"repository": tmp_path / "repo"})
    fill_repository(shop_run / "export", config)
    fill_benchmark_models(load_teacher(shop_config, "sequence", shop_run / "teacher-sequence", 90), shop_run / "export", config)
    spec = spec_of_artefact(read_manifest(shop_run / "export"))
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
