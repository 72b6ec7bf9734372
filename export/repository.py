"""The Triton model repository: models, vocabulary and configurations put in place."""

import importlib.util
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from distill.encoders import Recommender, Scorer
from distilrec import golden
from distilrec.config import ExportConfig
from distilrec.data import vocabulary as vocabularies
from distilrec.errors import RepositoryError
from distilrec.files import replace_folder, write_text
from distilrec.manifest import Manifest, verify_manifest
from distilrec.specs import FIRST_VERSION, FRONT_DOOR_NAME, MODEL_FILE, MODEL_NAME, PLAN_FILE, Precision, RecommenderSpec
from export.onnx import export_onnx
from export.plan import manifest_path
from export.storage import plan_path, served_files
from export.triton_check import check_config
from export.triton_config import HEADER, render_front_door, render_recommender, render_student


def artefact_spec(manifest: Manifest) -> RecommenderSpec:
    """Sizes of an export stage's model."""
    item_count, sizes = manifest.metrics["item_count"], manifest.settings
    return RecommenderSpec(item_count, sizes["history_length"], sizes["exclude_length"], min(sizes["top_k"], item_count))


def write_student(artefact: Path, manifest: Manifest, config: ExportConfig, folder: Path) -> None:
    """Write all files of a version of the student into ``folder``, which is made anew.

    Raises:
        RepositoryError: the target needs an engine that the artefact does not have.
    """
    source = _model_source(MODEL_NAME)
    if config.target == "tensorrt":
        plan = _engine(artefact, manifest)
        _make(folder, {PLAN_FILE: plan, f"{PLAN_FILE}.json": manifest_path(plan)})
    else:
        _make(folder, {path.name: path for path in served_files(artefact, Precision(manifest.metrics["precision"]))})
    # For every target: others ignore it, and in a checkout this folder is where it comes from.
    write_text(folder / "model.py", source)
    for name in (vocabularies.FILE_NAME, golden.FILE_NAME):
        shutil.copyfile(artefact / name, folder / name)


def write_front_door(artefact: Path, manifest: Manifest, config: ExportConfig, folder: Path) -> None:
    """Write all files of a version of the front door into ``folder``, which is made anew."""
    served = served_files(artefact, Precision(manifest.metrics["precision"])) if config.target == "python" else []
    source = _model_source(FRONT_DOOR_NAME)
    _make(folder, {path.name: path for path in (*served, artefact / vocabularies.FILE_NAME)})
    write_text(folder / "model.py", source)


IDENTITY_NAME = "identity"
TEACHER_NAME = "teacher"


class ServedModel(NamedTuple):
    """A model of the repository: how its version folder and its configuration come about."""

    name: str
    write: Callable[[Path, Manifest, ExportConfig, Path], None]
    render: Callable[[RecommenderSpec, str, ExportConfig, int], str]


MODELS = (
    ServedModel(MODEL_NAME, write_student, render_student),
    ServedModel(FRONT_DOOR_NAME, write_front_door, render_front_door),
)
"""Models that are filled, promoted and served together, with the same version number."""


def fill_repository(artefact: Path, config: ExportConfig) -> None:
    """Put an export stage's models into the repository as their first version, which is served.

    Each version's folder is written beside and renamed; config.pbtxt comes last.

    Raises:
        ManifestError: the artefact is not what its manifest says.
        RepositoryError: the repository cannot be written.
    """
    manifest = verify_manifest(artefact)
    try:
        _remove_benchmark_models(config.repository)
        for model in MODELS:
            folder = config.repository / model.name
            version = folder / str(FIRST_VERSION)
            beside = folder / f"{version.name}.partial"  # Triton reads folders with a number for a name only
            model.write(artefact, manifest, config, beside)
            # As one: a model with the weights of another would answer nonsense without a word.
            replace_folder(beside, version)
            text = model.render(artefact_spec(manifest), manifest.metrics["vocabulary_sha256"], config, FIRST_VERSION)
            write_text(folder / "config.pbtxt", text)
        check_config(config.repository / MODEL_NAME / "config.pbtxt", config.repository / MODEL_NAME / str(FIRST_VERSION))
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


def _make(folder: Path, files: Mapping[str, Path]) -> None:
    """A new folder with copies of files, by their names there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, path in files.items():
        shutil.copyfile(path, folder / name)


def fill_benchmark_models(teacher: Scorer | None, artefact: Path, config: ExportConfig) -> None:
    """Put two more models into the repository, for benchmarks: the teacher, and one with the same tensors that does no work.

    Args:
        teacher: trained, in evaluation mode; None leaves it out.
        artefact: the student's, whose sizes and vocabulary are the teacher's, too.
        config: of the repository; these models are always served by the Python backend.

    Raises:
        ManifestError: the artefact is not what its manifest says.
    """
    manifest = verify_manifest(artefact)
    spec, sha256 = artefact_spec(manifest), manifest.metrics["vocabulary_sha256"]
    on_cpu = config.model_copy(update={"target": "python"})
    identity = (Path(__file__).parent / IDENTITY_NAME / "model.py").read_text(encoding="utf-8")
    sources = {IDENTITY_NAME: identity} | ({} if teacher is None else {TEACHER_NAME: _model_source(MODEL_NAME)})
    for name, source in sources.items():
        folder = config.repository / name
        _make(folder / str(FIRST_VERSION), {})
        write_text(folder / str(FIRST_VERSION) / "model.py", source)
        if teacher is not None and name == TEACHER_NAME:
            export_onnx(Recommender(teacher, spec).eval(), folder / str(FIRST_VERSION) / MODEL_FILE, {"vocabulary_sha256": sha256})
        write_text(folder / "config.pbtxt", render_recommender(name, spec, sha256, on_cpu, FIRST_VERSION))


def _model_source(model: str) -> str:
    """The served model.py, as it stands in ``triton_repo/``."""
    # A namespace package: with an __init__.py, Triton would take its __pycache__ for a model.
    package = importlib.util.find_spec("triton_repo")
    for folder in package.submodule_search_locations or () if package else ():
        path = Path(folder) / model / str(FIRST_VERSION) / "model.py"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise RepositoryError(f"found no triton_repo/{model}/1/model.py in the installed package; install distilrec again")
