"""The models of a finished run that need no server: teacher, students, and the exported precisions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distilrec.config import Config, StudentName
from distilrec.core.errors import MissingExtraError
from distilrec.core.manifest import read_manifest
from distilrec.core.runner import ScoringRunner
from distilrec.core.specs import Head, Precision, RecommenderSpec
from distilrec.data.dataset import HeldOut
from distilrec.pipeline.finished import exported_artefact, mixture_weights
from distilrec.pipeline.folders import STUDENT_FOLDERS, STUDENT_VERDICT, run_dir, teacher_folders

Role = Literal["teacher", "undistilled", "distilled", "exported"]

TEACHER = "teacher (PyTorch)"
"""Name of the teacher, or of the mixture of all teachers."""

_STUDENTS: dict[StudentName, str] = {"undistilled": "student, no teacher", "distilled": "student, distilled"}
"""Name of each student; the exported one, which is either of them, is only called "student"."""


@dataclass(frozen=True)
class EvaluatedModel:
    """A model on the way from teacher to server."""

    name: str
    role: Role
    runner: ScoringRunner
    parameters: int
    """Parameters needed at inference."""
    size_bytes: int
    """Size of the weights on disk."""


def model_folders(config: Config) -> list[Path]:
    """Finished stage folders that the models are read from, and the verdict that one of the students ships by.

    Raises:
        ManifestError: Nothing has been exported.
    """
    teachers = teacher_folders(config)
    students = [run_dir(config) / STUDENT_FOLDERS[role] for role in _STUDENTS]
    verdict = run_dir(config) / STUDENT_VERDICT
    return [*(teachers[name] for name in mixture_weights(config)), *students, verdict, exported_artefact(config)]


def why_teacher_is_left_out(config: Config, users: HeldOut) -> str:
    """Say why the teacher cannot be evaluated: an external one only has lists for some histories. Empty where it can be.

    Args:
        config: Settings of the run.
        users: Held-out users.
    """
    folders = teacher_folders(config)
    missing = {name: config.teachers[name].unlisted(folders[name], users.history).sum() for name in config.student_teachers}
    reasons = [
        f"{name} has no list for the history of {count:,} of {len(users.users):,} held-out users"
        for name, count in missing.items()
        if count
    ]
    whose = "The teacher is" if len(missing) == 1 else "The mixture of teachers is"
    return (
        f"{whose} not evaluated: {'; '.join(reasons)}, and an external teacher has no model that could be asked." if reasons else ""
    )


def load_models(config: Config, spec: RecommenderSpec, users: HeldOut) -> Iterator[EvaluatedModel]:
    """Load one model after another, from the teacher (where it can be evaluated) to the exported precisions.

    Args:
        config: Settings of the run.
        spec: Sizes that all models answer with.
        users: Users whose histories the teacher must know.

    Raises:
        MissingExtraError: A package that runs the models is not installed.
        ParityError: An exported model cannot be loaded.
    """
    with _extra_needed():  # here, because these packages load PyTorch and are optional
        from distill.models.runner import TorchRunner
        from distill.models.students.build import load_student
        from distill.models.teachers.load import load_ensemble
        from distill.models.weights import WEIGHTS

    if not why_teacher_is_left_out(config, users):
        teachers, weights = teacher_folders(config), mixture_weights(config)
        ensemble = load_ensemble(config, weights, teachers, spec.item_count)
        size = sum((teachers[name] / WEIGHTS).stat().st_size for name in weights)
        yield EvaluatedModel(TEACHER, "teacher", TorchRunner(ensemble, spec), ensemble.parameter_count(), size)
    parameters = 0
    for role, name in _STUDENTS.items():
        folder = run_dir(config) / STUDENT_FOLDERS[role]
        student = load_student(config, folder, spec.item_count)
        parameters = student.parameter_count()
        yield EvaluatedModel(name, role, TorchRunner(student, spec), parameters, (folder / WEIGHTS).stat().st_size)
    yield from _exported(exported_artefact(config), spec, parameters)


def _exported(artefact: Path, spec: RecommenderSpec, parameters: int) -> Iterator[EvaluatedModel]:
    """The exported precisions, and the approximate head where it is served."""
    with _extra_needed():  # as in ``load_models``
        from export.artefact import head_files, head_folder, model_path, model_size_bytes, served_head
        from export.graph.onnx_runner import OnnxRunner
        from export.heads.runner import ApproximateRunner

    for precision in Precision:
        path = model_path(artefact, precision)
        if path.exists():
            name, size = f"student, ONNX {precision.value.upper()}", model_size_bytes(artefact, precision)
            yield EvaluatedModel(name, "exported", OnnxRunner(path, spec), parameters, size)
    if served_head(read_manifest(artefact)) is Head.APPROXIMATE:
        runner, size = ApproximateRunner(head_folder(artefact), spec), sum(path.stat().st_size for path in head_files(artefact))
        yield EvaluatedModel("student, approximate head", "exported", runner, parameters, size)


@contextmanager
def _extra_needed() -> Iterator[None]:
    """Turn the failed import of an optional package into the command that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"The package {error.name!r}", "export") from error
