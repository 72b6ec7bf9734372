"""Losses as pure functions over M predictions (one for each training prefix in a batch)."""

import torch
from torch import Tensor


def hard_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Full softmax cross-entropy, mean over predictions.

    Args:
        logits: float32 [M, N].
        targets: int64 [M], 0..N-1.
    """
    return torch.nn.functional.cross_entropy(logits, targets)


def softened_kl(logits: Tensor, teacher_items: Tensor, teacher_logits: Tensor, teacher_rest: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of distributions softened by T, times T^2, mean over predictions (Hinton 2015, arXiv:1503.02531).

    All items outside the teacher's top n count as one outcome, so that the student also learns how much mass lies there.
    The factor T^2 keeps the gradient's size independent of T.

    Args:
        logits: float32 [M, N], the student's.
        teacher_items: int64 [M, n], 0..N-1.
        teacher_logits: float32 [M, n].
        teacher_rest: float32 [M], logsumexp(teacher logits outside the top n / T).
        temperature: T > 0.
    """
    outcomes = torch.cat([teacher_logits / temperature, teacher_rest[:, None]], dim=1)
    teacher_log = outcomes.log_softmax(dim=1)  # (M, n + 1)
    student_log_top = (logits / temperature).log_softmax(dim=1).gather(1, teacher_items)  # (M, n)
    # 1 - sum of probabilities, clamped: it can round to 0 where the top n hold nearly all mass.
    student_rest = (1 - student_log_top.exp().sum(dim=1, keepdim=True)).clamp(min=1e-7).log()
    student_log = torch.cat([student_log_top, student_rest], dim=1)
    divergence = (teacher_log.exp() * (teacher_log - student_log)).sum(dim=1)
    return divergence.mean() * temperature**2
