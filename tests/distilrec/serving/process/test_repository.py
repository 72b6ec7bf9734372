import shutil
from types import SimpleNamespace

import pytest

from distilrec.config import ExportConfig
from distilrec.core.errors import ServerError
from distilrec.core.specs import Precision, RecommenderSpec
from distilrec.serving.process import repository as repositories
from distilrec.serving.process.repository import check_repository, plan_options
from export.repository.config import ServedModelFacts
from export.repository.models import MODELS
from export.repository.version_files import model_source

SHARED = ("filters.py", "histories.py")
FACTS = ServedModelFacts(RecommenderSpec(10, 4, 3, 5), "abc", Precision.FP32)


@pytest.fixture
def repository(tmp_path):
    for model in MODELS:
        folder = tmp_path / model.name / "1"
        folder.mkdir(parents=True)
        (tmp_path / model.name / "config.pbtxt").write_text(model.render(FACTS, ExportConfig(), 1))
        (folder / "model.py").write_text(model_source(model.name))
    (tmp_path / "student" / "1" / "model.onnx").touch()
    for name in SHARED:
        (tmp_path / "recommend" / "1" / name).touch()
    check_repository(tmp_path)
    return tmp_path


def test_repository_with_the_student_alone_is_fine(repository):
    shutil.rmtree(repository / "recommend")
    check_repository(repository)


@pytest.mark.parametrize("name", SHARED)
def test_repository_that_was_filled_before_an_update_is_refused(repository, name):
    (repository / "recommend" / "1" / name).unlink()
    with pytest.raises(ServerError, match=rf"imports {name}, and no {name}: .* Fill it again: distilrec export"):
        check_repository(repository)


def test_front_door_of_an_earlier_version_is_fine(repository):
    """It holds the rule itself, so that a rollback to it works."""
    for name in SHARED:
        (repository / "recommend" / "1" / name).unlink()
    (repository / "recommend" / "1" / "model.py").write_text("import numpy as np\n")
    check_repository(repository)


@pytest.mark.parametrize(
    ("version_compatible", "options"), [(True, ["--backend-config=tensorrt,version-compatible=true"]), (False, [])]
)
def test_server_runs_code_from_a_plan_only_where_the_plan_needs_it(repository, monkeypatch, version_compatible, options):
    assert plan_options(repository) == []  # there is no plan
    (repository / "student" / "1" / "model.plan").touch()
    monkeypatch.setattr(repositories, "read_plan_manifest", lambda _: SimpleNamespace(version_compatible=version_compatible))
    assert plan_options(repository) == options
