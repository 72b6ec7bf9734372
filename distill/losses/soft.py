"""Loss ``soft``: KL divergence of softened distributions (Hinton 2015, arXiv:1503.02531)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from distill.losses._base import LogitLoss, TeacherLogits
from distill.losses.partition import StudentLogits
from distilrec.config.training import Scheduled


class SoftLoss(LogitLoss):
    """Softened KL (Hinton 2015)."""

    name = "soft"

    weight: Scheduled = 1.0

    def values(self, student: StudentLogits, teacher: TeacherLogits, state: nn.Module) -> Tensor:  # noqa: ARG002
        """See ``LogitLoss``."""
        return softened_kl(student.top, student.soft_rest, teacher.logits, teacher.rest, teacher.temperature)


def softened_kl(top: Tensor, soft_rest: Tensor, teacher_top: Tensor, teacher_rest: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of distributions softened by T, times T^2 (Hinton 2015, arXiv:1503.02531).

    All items outside the teacher's top n count as one outcome, so that the student also learns how much mass lies there.
    The factor T^2 keeps the gradient's size independent of T.

    Args:
        top: float32 [M, n], the student's logits of the teacher's top n items.
        soft_rest: float32 [M], logsumexp(the student's other logits / T).
        teacher_top: float32 [M, n], the teacher's logits of the same items.
        teacher_rest: float32 [M], logsumexp(the teacher's other logits / T).
        temperature: T > 0, the one in both rests.

    Returns:
        float32 [M], reduction: none.
    """
    student = torch.cat([top / temperature, soft_rest[:, None]], dim=1).log_softmax(dim=1)  # (M, n + 1)
    teacher = torch.cat([teacher_top / temperature, teacher_rest[:, None]], dim=1).log_softmax(dim=1)
    return functional.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1) * temperature**2
