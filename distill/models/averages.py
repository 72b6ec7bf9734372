"""Decayed averages of a history's item vectors: of the last items and of all."""

from collections.abc import Sequence

import torch
from torch import Tensor


def decay_weights(length: int, decays: Sequence[float]) -> Tensor:
    """float32 [length, len(decays), length]: decay ** (t - s) for s <= t, else 0; decay 0 picks position t alone."""
    age = torch.arange(length)[:, None] - torch.arange(length)[None, :]  # (t, s)
    weights = torch.stack([torch.tensor(decay) ** age.clamp(min=0) for decay in decays], dim=1)
    return weights * (age >= 0).unsqueeze(1)


def decayed_averages(vectors: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """Weighted means over the history for each output position and each average.

    Args:
        vectors: float32 [B, S, d], item vectors.
        mask: bool [B, S], which of them count.
        weights: float32 [T, A, S], how much position s counts in average a at output position t.

    Returns:
        float32 [B, T, A, d]; zeros where no item counts.
    """
    positions, averages, length = weights.shape
    flat = weights.reshape(positions * averages, length)
    present = mask.to(flat.dtype).unsqueeze(2)  # (B, S, 1)
    sums = torch.matmul(flat, vectors * present)  # (B, T * A, d)
    totals = torch.matmul(flat, present)  # (B, T * A, 1)
    return (sums / totals.clamp(min=1e-6)).reshape(-1, positions, averages, vectors.shape[2])
