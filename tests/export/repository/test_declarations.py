"""A serving target is declared in one file: here a toy, taken from the settings to a filled and checked repository."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distilrec.config.export import SERVING_TARGETS
from distilrec.config.reading import with_export_settings
from distilrec.core.errors import RepositoryError
from distilrec.core.manifest import read_manifest
from export.repository.config import config_text, recommender_config, run_on_cpu
from export.repository.fill import fill_repository
from export.repository.target import ServingTarget


def render(name, facts, config, version):
    model = recommender_config(name, facts, config, version)
    model.backend = "toy"
    return config_text(model, run_on_cpu(model, config))


def write_size(_artefact, manifest, folder):
    (folder / "sizes.toy").write_text(str(manifest.metrics["item_count"]))


def check(config_path, version_folder):
    stated = parse(config_path).parameters["item_count"].string_value
    found = (version_folder / "sizes.toy").read_text()
    if stated != found:
        raise RepositoryError(f"{config_path}: found {stated} items, expected {found}")


def parse(path: Path):
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


def write_another_size(_artefact, _manifest, folder):
    (folder / "sizes.toy").write_text("7")


SERVING_TARGETS.declare("toy", ServingTarget(render, write_size, check, front_door_runs_graph=False))
SERVING_TARGETS.declare("toy-of-another-size", ServingTarget(render, write_another_size, check, front_door_runs_graph=False))


@pytest.fixture
def repository(shop_run, shop_config, tmp_path):
    settings = with_export_settings(shop_config, {"target": "toy", "repository": tmp_path / "repo"})
    fill_repository(shop_run / "export", settings.export)
    return tmp_path / "repo"


def test_declared_target_fills_the_students_version(repository, shop_run):
    item_count = str(read_manifest(shop_run / "export").metrics["item_count"])
    files = {path.name for path in (repository / "student" / "1").iterdir()}
    assert files == {"sizes.toy", "model.py", "golden.npz", "ranking.json", "vocabulary.json"}
    assert (repository / "student" / "1" / "sizes.toy").read_text() == item_count
    config = parse(repository / "student" / "config.pbtxt")
    assert (config.backend, config.parameters["item_count"].string_value) == ("toy", item_count)


def test_front_door_sends_requests_on_where_the_target_says_so(repository):
    assert not (repository / "recommend" / "1" / "model.onnx").exists()
    assert parse(repository / "recommend" / "config.pbtxt").parameters["upstream"].string_value == "student"


def test_filling_fails_where_the_targets_check_does(shop_run, shop_config, tmp_path):
    settings = with_export_settings(shop_config, {"target": "toy-of-another-size", "repository": tmp_path / "repo"})
    with pytest.raises(RepositoryError, match="found 90 items, expected 7"):
        fill_repository(shop_run / "export", settings.export)
