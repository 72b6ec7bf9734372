"""The Triton model repository: models, vocabulary and configurations put in place."""

import importlib.util
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from distilrec.config import ExportConfig, spec_of_artefact
from distilrec.core import golden, histories
from distilrec.core.errors import RepositoryError
from distilrec.core.files import replace_folder, write_text
from distilrec.core.manifest import Manifest, verify_manifest
from distilrec.core.specs import FIRST_VERSION, FRONT_DOOR_NAME, MODEL_NAME, PLAN_FILE, VOCABULARY_NAME, Precision
from distilrec.data import vocabulary as vocabularies
from export.artefact import plan_path, served_files
from export.engines.plan import manifest_path
from export.repository.check import check_config
from export.repository.config import HEADER, Facts, render_front_door, render_student, render_vocabulary
from export.repository.versions import partial_folder, pin, used_numbers


def artefact_facts(manifest: Manifest) -> Facts:
    """What configurations say of an export stage's model."""
    return Facts(spec_of_artefact(manifest), manifest.metrics["vocabulary_sha256"], Precision(manifest.metrics["precision"]))


def write_student(artefact: Path, manifest: Manifest, config: ExportConfig, folder: Path) -> None:
    """Write all files of a version of the student into ``folder``, which is made anew.

    Raises:
        RepositoryError: the target needs an engine that the artefact does not have.
    """
    source = model_source(MODEL_NAME)
    if config.target == "tensorrt":
        plan = _engine(artefact, manifest)
        make_version(folder, {PLAN_FILE: plan, f"{PLAN_FILE}.json": manifest_path(plan)})
    else:
        make_version(folder, {path.name: path for path in served_files(artefact, Precision(manifest.metrics["precision"]))})
    # For every target: others ignore it, and in a checkout this folder is where it comes from.
    write_text(folder / "model.py", source)
    for name in (vocabularies.FILE_NAME, golden.FILE_NAME):
        shutil.copyfile(artefact / name, folder / name)


def write_front_door(artefact: Path, manifest: Manifest, config: ExportConfig, folder: Path) -> None:
    """Write all files of a version of the front door into ``folder``, which is made anew."""
    served = served_files(artefact, Precision(manifest.metrics["precision"])) if config.target == "python" else []
    source = model_source(FRONT_DOOR_NAME)
    # model.py runs where DistilRec is not installed.
    files = (*served, artefact / vocabularies.FILE_NAME, Path(histories.__file__))
    make_version(folder, {path.name: path for path in files})
    write_text(folder / "model.py", source)


def write_vocabulary(artefact: Path, _manifest: Manifest, _config: ExportConfig, folder: Path) -> None:
    """Write all files of a version of the model that hands the vocabulary over into ``folder``, which is made anew."""
    source = model_source(VOCABULARY_NAME)
    make_version(folder, {vocabularies.FILE_NAME: artefact / vocabularies.FILE_NAME})
    write_text(folder / "model.py", source)


IDENTITY_NAME = "identity"
TEACHER_NAME = "teacher"


class ServedModel(NamedTuple):
    """A model of the repository: how its version folder and its configuration come about."""

    name: str
    write: Callable[[Path, Manifest, ExportConfig, Path], None]
    render: Callable[[Facts, ExportConfig, int], str]


MODELS = (
    ServedModel(VOCABULARY_NAME, write_vocabulary, render_vocabulary),
    ServedModel(MODEL_NAME, write_student, render_student),
    ServedModel(FRONT_DOOR_NAME, write_front_door, render_front_door),
)
"""In the order of ``SERVED_MODELS``; each comes after those that it asks."""


def fill_repository(artefact: Path, config: ExportConfig) -> None:
    """Put an export stage's models into the repository and pin them; the next start of a server serves them.

    As version 1, made anew; after promotions as the next number, so that no number ever means two models. Each version's folder is
    written beside and renamed; config.pbtxt comes last.

    Raises:
        ManifestError: the artefact is not what its manifest says.
        RepositoryError: the repository cannot be written.
    """
    manifest = verify_manifest(artefact)
    number = max(used_numbers(config.repository), default=FIRST_VERSION)
    number = number + 1 if number > FIRST_VERSION else FIRST_VERSION
    versions = {model: config.repository / model.name / str(number) for model in MODELS}
    try:
        _remove_benchmark_models(config.repository)
        try:
            for model, version in versions.items():
                model.write(artefact, manifest, config, partial_folder(version))
        except BaseException:
            for version in versions.values():
                shutil.rmtree(partial_folder(version), ignore_errors=True)
            raise
        for model, version in versions.items():
            # As one: a model with the weights of another would answer nonsense without a word.
            replace_folder(partial_folder(version), version)
            pin(config.repository, {model.name: model.render(artefact_facts(manifest), config, number)}, number)
        check_config(config.repository / MODEL_NAME / "config.pbtxt", config.repository / MODEL_NAME / str(number))
    except OSError as error:
        raise RepositoryError(f"{config.repository}: cannot be written: {error}") from error


def _remove_benchmark_models(repository: Path) -> None:
    """They are of the last artefact; a model of that name that is not ours stays."""
    for name in (IDENTITY_NAME, TEACHER_NAME):
        config = repository / name / "config.pbtxt"
        if config.is_file() and config.read_text(encoding="utf-8").startswith(HEADER):
            shutil.rmtree(repository / name)


def _engine(artefact: Path, manifest: Manifest) -> Path:
    """The engine that Triton's TensorRT backend can run: TensorRT for RTX has none there."""
    plan = plan_path(artefact, "tensorrt", Precision(manifest.metrics["precision"]))
    if not plan.is_file():
        raise RepositoryError(
            f"{artefact}: found no {plan.relative_to(artefact)}, expected an engine for the target tensorrt. Build it on the GPU"
            " that serves, with the TensorRT of its container: set export.engines to tensorrt and run distilrec export"
        )
    return plan


def make_version(folder: Path, files: Mapping[str, Path]) -> None:
    """A new folder with copies of files, by their names there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, path in files.items():
        shutil.copyfile(path, folder / name)


def model_source(model: str) -> str:
    """The served model.py, as it stands in ``triton_repo/``."""
    # A namespace package: with an __init__.py, Triton would take its __pycache__ for a model.
    package = importlib.util.find_spec("triton_repo")
    for folder in package.submodule_search_locations or () if package else ():
        path = Path(folder) / model / str(FIRST_VERSION) / "model.py"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise RepositoryError(f"found no triton_repo/{model}/1/model.py in the installed package; install distilrec again")
