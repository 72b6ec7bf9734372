"""Losses on logits, as pure functions over M predictions (one for each training prefix in a batch).

Each returns one value for each prediction (reduction: none): whoever calls them weights, masks and averages. None reads the
whole catalogue: ``distill.losses.partition.split_logits`` does that once for all of them.
"""

import torch
from torch import Tensor
from torch.nn import functional


def hard_cross_entropy(target: Tensor, top: Tensor, rest: Tensor) -> Tensor:
    """Full softmax cross-entropy of the true items.

    Args:
        target: float32 [M], the student's logits of the true items.
        top: float32 [M, n], its logits of any n items.
        rest: float32 [M], logsumexp of its logits outside these.

    Returns:
        float32 [M], reduction: none.
    """
    return torch.logaddexp(top.logsumexp(dim=1), rest) - target


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


def logit_mse(top: Tensor, teacher_top: Tensor) -> Tensor:
    """Mean squared difference of the logits of the teacher's top n items, both sides centred on their mean over these.

    Logits are matched as in Ba & Caruana 2014 (arXiv:1312.6184); Kim et al. 2021 (arXiv:2105.08919) show that softened KL
    tends to this as T grows. Centred, because a shift changes no distribution, and a teacher's level is not worth capacity.
    How much mass lies outside the top n is left free: hard cross-entropy or softened KL beside it settles that.

    Args:
        top: float32 [M, n], the student's logits of the teacher's top n items.
        teacher_top: float32 [M, n], the teacher's.

    Returns:
        float32 [M], reduction: none (mean over the n items).
    """
    difference = top - teacher_top
    return difference.var(dim=1, correction=0)


def listwise_ranking(top: Tensor, rest: Tensor, depth: int) -> Tensor:
    """Negative log-likelihood of the teacher's order of its best K items, all others one set below them (RRD, arXiv:2012.04357).

    Relaxed permutation probability of DE-RRD (Kang et al. 2020), with s the student's logits and i_1 .. i_K the teacher's order:

        -1/K * sum_k [ s(i_k) - log( sum_{l >= k} exp s(i_l) + sum_{others} exp s ) ]

    The order among the others does not matter. RRD samples K interesting items by rank and L uninteresting ones; here
    the K are the best and the others are the whole remaining catalogue. 1/K keeps the size independent of K.

    Args:
        top: float32 [M, n], the student's logits of the teacher's top n items, best first.
        rest: float32 [M], logsumexp of the student's other logits.
        depth: K, 1..n.

    Returns:
        float32 [M], reduction: none (mean over the K places).
    """
    others = torch.cat([top[:, depth:], rest[:, None]], dim=1).logsumexp(dim=1, keepdim=True)
    from_the_end = torch.cat([others, top[:, :depth].flip(1)], dim=1).logcumsumexp(dim=1)
    return (from_the_end[:, 1:].sum(dim=1) - top[:, :depth].sum(dim=1)) / depth
