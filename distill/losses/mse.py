"""Loss ``mse``: squared difference of logits (Ba and Caruana 2014, arXiv:1312.6184)."""

from torch import Tensor, nn

from distill.losses._base import LogitLoss, TeacherLogits
from distill.losses.partition import StudentLogits


class MseLoss(LogitLoss):
    """Squared difference of logits (Ba and Caruana 2014)."""

    name = "mse"

    def values(self, student: StudentLogits, teacher: TeacherLogits, state: nn.Module) -> Tensor:  # noqa: ARG002
        """See ``LogitLoss``."""
        return logit_mse(student.top, teacher.logits)


def logit_mse(top: Tensor, teacher_top: Tensor) -> Tensor:
    """Mean squared difference of the logits of the teacher's top n items, both sides centred on their mean over these.

    Logits are matched as in Ba & Caruana 2014 (arXiv:1312.6184); Kim et al. 2021 (arXiv:2105.08919) show that softened KL
    tends to this as T grows. They are centred because a shift changes no distribution.
    The mass outside the top n is left free: hard cross-entropy or softened KL, used together with this loss, determine it.

    Args:
        top: float32 [M, n], the student's logits of the teacher's top n items.
        teacher_top: float32 [M, n], the teacher's.

    Returns:
        float32 [M], reduction: none (mean over the n items).
    """
    difference = top - teacher_top
    return difference.var(dim=1, correction=0)
