"""What declared losses share: those on logits, and those on user vectors."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from distill.losses.partition import StudentLogits
from distilrec.config import LossConfig


@dataclass(frozen=True)
class LossSetup:
    """What a loss may need to know before the training."""

    item_counts: Tensor
    """int64 [N + 1], training interactions of each item by its index; 0 at the index of padding."""
    student_size: int
    """d of the student's user vectors."""
    teacher_size: int | None
    """d of the teacher's user vectors; None where it has none."""


class TeacherLogits(NamedTuple):
    """A teacher's soft targets of m predictions."""

    items: Tensor
    """int64 [m, n], the teacher's best items, indices 1..N, best first."""
    logits: Tensor
    """float32 [m, n], their logits."""
    rest: Tensor
    """float32 [m]: logsumexp of all other logits / T."""
    temperature: float
    """T."""


class LogitLoss(LossConfig):
    """A loss on the student's logits. The catalogue is read once for all of them (``split_logits``)."""

    follows: ClassVar[Literal["teacher", "truth"]] = "teacher"
    """``teacher``: counts as far as the teacher is trusted, and not where it has no soft targets. ``truth``: counts where there
    is a true item."""
    takes_distrusted_weight: ClassVar[bool] = False
    """Whether the loss gets the weight that the teacher loses by ``confidence``."""

    def state(self, setup: LossSetup) -> nn.Module:  # noqa: ARG002 - most losses need none
        """Buffers and parameters of the loss; they are trained and moved to a device with the student."""
        return nn.Module()

    @abstractmethod
    def values(self, student: StudentLogits, teacher: TeacherLogits, state: nn.Module) -> Tensor:
        """The loss of m predictions, float32 [m], reduction: none.

        Args:
            student: Logits of the student.
            teacher: Soft targets of the same predictions; without meaning where the teacher has none.
            state: Module that ``state`` made.
        """


class VectorLoss(LossConfig):
    """A loss on user vectors."""

    needs_user_vectors = True

    def state(self, setup: LossSetup) -> nn.Module:  # noqa: ARG002
        """Buffers and parameters of the loss; they are trained and moved to a device with the student."""
        return nn.Module()

    @abstractmethod
    def value(self, student: Tensor, teacher: Tensor, trust: Tensor, state: nn.Module) -> Tensor:
        """The loss summed over M predictions, a scalar.

        Args:
            student: float32 [M, d], user vectors of the student.
            teacher: float32 [M, d_teacher], user vectors of the teacher.
            trust: float32 [M], how far the teacher is trusted; 0 where it has no soft targets.
            state: Module that ``state`` made.
        """
