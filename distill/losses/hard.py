"""Loss ``hard``: cross-entropy with the true next item."""

import torch
from torch import Tensor, nn

from distill.losses._base import LogitLoss, TeacherLogits
from distill.losses.partition import StudentLogits


class HardLoss(LogitLoss):
    """Cross-entropy with the true next item. Where it is off, a history without soft targets learns by it, with their weight."""

    name = "hard"
    follows = "truth"
    takes_distrusted_weight = True

    @classmethod
    def is_on_by_default(cls) -> bool:
        """It counts where soft targets are missing."""
        return True

    def values(self, student: StudentLogits, teacher: TeacherLogits, state: nn.Module) -> Tensor:  # noqa: ARG002
        """See ``LogitLoss``."""
        return hard_cross_entropy(student.target, student.top, student.rest)


def hard_cross_entropy(target: Tensor, top: Tensor, rest: Tensor) -> Tensor:
    """Full softmax cross-entropy of the true items.

    Args:
        target: float32 [M], the student's logits of the true items.
        top: float32 [M, n], the student's logits of any n items.
        rest: float32 [M], logsumexp of the student's logits of all other items.

    Returns:
        float32 [M], reduction: none.
    """
    return torch.logaddexp(top.logsumexp(dim=1), rest) - target
