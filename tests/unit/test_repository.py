from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distilrec.config import ExportConfig, load_config
from distilrec.data import stage as data_stage
from distilrec.errors import ManifestError, RepositoryError
from distilrec.specs import RecommenderSpec
from export.repository import fill_repository, render_config
from export.stage import recommender_spec

COMMITTED = Path(__file__).parents[2] / "triton_repo" / "student"
SPEC = RecommenderSpec(10, 4, 3, 5)


def test_committed_config_is_what_the_default_preset_renders(tmp_path):
    config = load_config("ml-100k")
    data_stage.run(config, {}, tmp_path / "data")
    _, vocabulary = data_stage.load(tmp_path / "data")
    rendered = render_config(recommender_spec(config, len(vocabulary)), vocabulary.sha256, config.export)
    assert (COMMITTED / "config.pbtxt").read_text() == rendered


def test_config_says_what_the_spec_says():
    text = render_config(SPEC, "abc", ExportConfig(max_batch_size=7, instances=3))
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


def test_rendering_is_deterministic():
    assert render_config(SPEC, "abc", ExportConfig()) == render_config(SPEC, "abc", ExportConfig())


def test_filled_repository_is_complete_and_serves_the_committed_model(shop_run, tmp_path):
    config = ExportConfig(repository=tmp_path / "repo", exclude_length=16, top_k=20)
    folder = fill_repository(shop_run / "export", config)
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "1/golden.npz",
        "1/model.onnx",
        "1/model.py",
        "1/vocabulary.json",
        "config.pbtxt",
    ]
    assert (folder / "1" / "model.py").read_text() == (COMMITTED / "1" / "model.py").read_text()


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
