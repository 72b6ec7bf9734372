"""Weights of losses: by the teacher's reliability for each prediction, and by the progress of the training."""

import math
from typing import Literal

import torch
from torch import Tensor


def teacher_confidence(teacher_items: Tensor, targets: Tensor) -> Tensor:
    """Trust in the teacher for each prediction: 1 / log2(rank + 1) of the true item, 0 outside the top n.

    This is the discount of DCG: 1 where the teacher ranks the true item first, 0.63 second, 0.29 tenth. DLLM2Rec (Cui et al.
    2024, arXiv:2405.00338) weights examples by the teacher's reliability, too, with another measure. A teacher ranks the true
    item higher on prefixes it was trained on than on others, so this is an upper bound.

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
    """Value that moves from ``start`` to ``end``.

    Args:
        start: Value at progress 0.
        end: Value at progress 1.
        progress: Share of the training that is done; clipped to 0..1.
        shape: Straight line, or half a period of the cosine.
    """
    done = min(max(progress, 0.0), 1.0)
    if shape == "cosine":
        done = (1 - math.cos(math.pi * done)) / 2
    return start + (end - start) * done
