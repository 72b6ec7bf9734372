"""The hops of a finished run that need no server: teacher, students, and the exported precisions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distilrec.config import Config
from distilrec.core.errors import MissingExtraError
from distilrec.core.runner import Runner
from distilrec.core.specs import Precision, RecommenderSpec
from distilrec.pipeline.stages import run_dir, served_artefact, teacher_folders

Role = Literal["teacher", "undistilled", "distilled", "exported"]


@dataclass(frozen=True)
class Hop:
    """A model on the way from teacher to server."""

    name: str
    role: Role
    runner: Runner
    parameters: int
    """Numbers needed at inference."""
    size_bytes: int
    """Weights on disk."""


def hop_folders(config: Config) -> list[Path]:
    """Finished stage folders that the hops are read from.

    Raises:
        ManifestError: nothing has been exported.
    """
    teachers = teacher_folders(config)
    students = [run_dir(config) / stage for stage in ("student-undistilled", "student")]
    return [*(teachers[name] for name in config.student_teachers), *students, served_artefact(config)]


def served_spec(config: Config, item_count: int) -> RecommenderSpec:
    """Sizes of the served model, by which all hops are judged.

    Raises:
        MissingExtraError: what runs the hops is not installed.
    """
    with _extra_needed():
        from export.stage import recommender_spec

    return recommender_spec(config, item_count)


def load_hops(config: Config, spec: RecommenderSpec) -> Iterator[Hop]:
    """Load one hop after another, in their order.

    Raises:
        MissingExtraError: what runs them is not installed.
        ParityError: an exported model cannot be loaded.
    """
    with _extra_needed():
        from distill.models.runner import TorchRunner
        from distill.models.students.build import load_student
        from distill.models.teachers.load import load_ensemble
        from distill.models.weights import WEIGHTS
        from export.artefact import model_path, model_size_bytes
        from export.graph.onnx_runner import OnnxRunner

    teachers = teacher_folders(config)
    ensemble = load_ensemble(config, teachers, spec.item_count)
    size = sum((teachers[name] / WEIGHTS).stat().st_size for name in config.student_teachers)
    yield Hop("teacher (PyTorch)", "teacher", TorchRunner(ensemble, spec), ensemble.parameter_count(), size)
    students: list[tuple[str, Role, str]] = [
        ("student, no teacher", "undistilled", "student-undistilled"),
        ("student, distilled", "distilled", "student"),
    ]
    parameters = 0
    for name, role, stage in students:
        folder = run_dir(config) / stage
        student = load_student(config, folder, spec.item_count)
        parameters = student.parameter_count()
        yield Hop(name, role, TorchRunner(student, spec), parameters, (folder / WEIGHTS).stat().st_size)
    artefact = served_artefact(config)
    for precision in Precision:
        path = model_path(artefact, precision)
        if path.exists():
            name, size = f"distilled, ONNX {precision.value.upper()}", model_size_bytes(artefact, precision)
            yield Hop(name, "exported", OnnxRunner(path, spec), parameters, size)


@contextmanager
def _extra_needed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"The package {error.name!r}", "export") from error
