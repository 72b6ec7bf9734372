"""Students of any kind: built untrained from settings, loaded from a finished stage, and described."""

from pathlib import Path

from torch import Tensor

from distill.models.item_table import ItemTable
from distill.models.students._base import Student
from distill.models.weights import load_weights
from distilrec.config import Config, StudentConfig

_SUMMARY = "A small model ({kind}) that recommends the next item of a history in milliseconds."
_DISTILLED = "Learned from what users did next and from a teacher's soft targets (Hinton 2015, arXiv:1503.02531)."
_UNDISTILLED = "Learned without a teacher."


def describe_student(settings: StudentConfig, *, distilled: bool) -> str:
    """Summary for the model card."""
    return f"{_SUMMARY.format(kind=settings.kind)} {_DISTILLED if distilled else _UNDISTILLED}"


def build_student(
    config: Config,
    item_count: int,
    popularity: Tensor | None = None,
    *,
    settings: StudentConfig | None = None,
) -> Student:
    """An untrained student.

    Args:
        config: Settings of the run.
        item_count: N.
        popularity: float32 [N], fixed coordinate of the item table.
        settings: Settings of another student than the run's, such as an assistant.
    """
    settings = settings or config.student
    items = ItemTable(item_count, settings.embedding_size, None, popularity, settings.rank)
    student: Student = settings.build(items, config.history_length)
    return student


def load_student(config: Config, folder: Path, item_count: int, settings: StudentConfig | None = None) -> Student:
    """A trained student, ready for inference; arguments as in ``build_student``."""
    student = build_student(config, item_count, settings=settings)
    load_weights(student, folder)
    return student
