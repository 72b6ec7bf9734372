"""The hops of a finished run that need no server: teacher, students, and the exported precisions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from distilrec.config import Config
from distilrec.errors import MissingExtraError
from distilrec.pipeline import run_dir, served_artefact
from distilrec.runner import Runner
from distilrec.specs import Precision, RecommenderSpec

if TYPE_CHECKING:
    from distill.encoders import Encoder

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
    return [run_dir(config) / stage for stage in ("teacher", "student-undistilled", "student")] + [served_artefact(config)]


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
        from distill.runner import TorchRunner
        from distill.student_stage import load_student
        from distill.teacher_stage import load_teacher
        from distill.weights import WEIGHTS
        from export.onnx_runner import OnnxRunner
        from export.storage import model_path, model_size_bytes

    folder = run_dir(config)
    models: list[tuple[str, Role, Callable[[Config, Path, int], Encoder], Path]] = [
        ("teacher (PyTorch)", "teacher", load_teacher, folder / "teacher"),
        ("student, no teacher", "undistilled", load_student, folder / "student-undistilled"),
        ("student, distilled", "distilled", load_student, folder / "student"),
    ]
    parameters = 0
    for name, role, load_model, stage in models:
        model = load_model(config, stage, spec.item_count)
        parameters = model.parameter_count()
        yield Hop(name, role, TorchRunner(model, spec), parameters, (stage / WEIGHTS).stat().st_size)
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
