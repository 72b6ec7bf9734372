"""How much a teacher is followed: by example and by progress of the training."""

import math
from typing import Literal

import torch
from torch import Tensor


def teacher_confidence(teacher_items: Tensor, targets: Tensor) -> Tensor:
    """How far to trust the teacher with each prediction: 1 / log2(rank + 1) of the true item, 0 outside the top n.

    1 where the teacher ranks the true item first, 0.63 second, 0.29 tenth: the discount of DCG. Weighting examples
    by the teacher's reliability is DLLM2Rec's idea (Cui et al. 2024, arXiv:2405.00338), whose measure is another one.
    A teacher is surer of prefixes it was trained on than of others, so this is an upper bound.

    Args:
        teacher_items: int64 [M, n], best first, no item twice in a row.
        targets: int64 [M], the true items, numbered as ``teacher_items``.

    Returns:
        float32 [M] in [0, 1].
    """
    hits = teacher_items == targets[:, None]
    ranks = torch.arange(1, teacher_items.shape[1] + 1, device=hits.device, dtype=torch.float32)
    return (hits / torch.log2(ranks + 1)).sum(dim=1)


def scheduled(start: float, end: float, progress: float, shape: Literal["linear", "cosine"] = "linear") -> float:
    """A weight or temperature on its way from ``start`` to ``end``; ``progress`` is the share of it done, held to 0..1."""
    done = min(max(progress, 0.0), 1.0)
    if shape == "cosine":
        done = (1 - math.cos(math.pi * done)) / 2
    return start + (end - start) * done
