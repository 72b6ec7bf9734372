import shutil
from pathlib import Path

import pytest
from disks import failing_writes
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distill.models.teachers.load import load_teacher
from distilrec.config import ExportConfig, spec_of_artefact
from distilrec.core.errors import ManifestError, RepositoryError
from distilrec.core.manifest import read_manifest
from export.graph.onnx_runner import OnnxRunner
from export.repository.benchmark_models import fill_benchmark_models
from export.repository.fill import fill_repository
from export.repository.locks import locked
from export.repository.models import MODELS
from export.repository.versions import served_version

COMMITTED = Path(__file__).parents[3] / "triton_repo"


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_filled_repository_is_complete_and_serves_the_committed_model(shop_run, tmp_path):
    config = ExportConfig(repository=tmp_path / "repo", exclude_length=16, top_k=20)
    fill_repository(shop_run / "export", config)
    assert files(config.repository) == [
        "recommend/1/filters.py",
        "recommend/1/histories.py",
        "recommend/1/model.onnx",
        "recommend/1/model.py",
        "recommend/1/vocabulary.json",
        "recommend/config.pbtxt",
        "student/1/golden.npz",
        "student/1/model.onnx",
        "student/1/model.py",
        "student/1/ranking.json",
        "student/1/vocabulary.json",
        "student/config.pbtxt",
        "versions.json",
        "versions.lock",
        "vocabulary/1/model.py",
        "vocabulary/1/vocabulary.json",
        "vocabulary/config.pbtxt",
    ]
    for model in MODELS:
        source = Path(model.name) / "1" / "model.py"
        assert (config.repository / source).read_text() == (COMMITTED / source).read_text()


def test_damaged_artefact_is_refused_and_the_repository_untouched(shop_run, tmp_path):
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
    with pytest.raises(RepositoryError, match=r"found no engines/tensorrt/fp32\.plan.*export-in-container\.sh 26\.05"):
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


def pinned(repository):
    return {served_version(repository, model.name) for model in MODELS}


def test_same_content_keeps_its_number_and_other_content_never_does(serving_config, shop_run, variant):
    repository = serving_config.repository
    before = (repository / "student" / "1" / "model.onnx").read_bytes()
    fill_repository(shop_run / "export", serving_config.model_copy(update={"instances": 2}))
    assert pinned(repository) == {1}
    assert "count: 2" in (repository / "student" / "config.pbtxt").read_text()
    with locked(repository), pytest.raises(RepositoryError, match="another promotion, rollback or export at work"):
        fill_repository(variant(1), serving_config)
    fill_repository(variant(1), serving_config)
    assert pinned(repository) == {2}
    assert (repository / "student" / "1" / "model.onnx").read_bytes() == before


def test_checkout_without_weights_is_filled_as_version_1(shop_run, shop_config, tmp_path):
    shutil.copytree(COMMITTED, tmp_path / "repo", ignore=shutil.ignore_patterns("*.onnx", "vocabulary.json", "versions.*"))
    fill_repository(shop_run / "export", shop_config.export.model_copy(update={"repository": tmp_path / "repo"}))
    assert pinned(tmp_path / "repo") == {1}
    assert (tmp_path / "repo" / "student" / "1" / "model.onnx").exists()


@pytest.mark.parametrize("first", [True, False])
def test_full_disk_at_any_write_leaves_the_former_state_or_the_new_one(
    first, shop_run, shop_config, variant, tmp_path, monkeypatch
):
    """The n-th write fails, for every n; then the same command is run again."""
    artefact, config = variant(1), shop_config.export.model_copy(update={"repository": tmp_path / "repo", "instances": 1})
    if not first:
        fill_repository(shop_run / "export", config)
    former = set(files(config.repository))
    for writes in range(100):
        with monkeypatch.context() as patch:
            failing_writes(patch, writes)
            try:
                fill_repository(artefact, config)
            except RepositoryError:
                done = False
            else:
                done = True
        if done:
            break
        if not (config.repository / "student" / "config.pbtxt").exists() or (pinned(config.repository) == {1} and not first):
            assert set(files(config.repository)) - former <= {"versions.lock", "versions.json"}
        else:
            assert pinned(config.repository) == {1 if first else 2}
    assert writes > 12
    assert pinned(config.repository) == {1 if first else 2}
    assert (config.repository / "student" / str(1 if first else 2) / "ranking.json").exists()
    assert not [name for name in files(config.repository) if "partial" in name or "tmp" in name]
