"""Loss ``hard``: cross-entropy with the true next item."""

import torch
from torch import Tensor, nn

from distill.losses._base import LogitLoss, TeacherLogits
from distill.losses.partition import StudentLogits
from distilrec.config.training import Scheduled


class HardLoss(LogitLoss):
    """Cross-entropy with the true next item."""

    name = "hard"
    follows = "truth"
    takes_distrusted_weight = True

    weight: Scheduled = 0.5

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
