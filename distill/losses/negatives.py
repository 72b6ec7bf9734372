"""Sampled softmax, for catalogues too large to score whole: the true items of a batch against randomly drawn items."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from distill.data.indices import items_at


class Candidates(NamedTuple):
    """The items that the M predictions of a batch choose from."""

    items: Tensor
    """int64 [C], indices 1..N, each once."""
    targets: Tensor
    """int64 [M]: index 1..C of each target in the catalogue that ``items`` are."""
    correction: Tensor
    """float32 [C], added to the logits: a drawn item stands for all that were not drawn (Bengio and Senecal 2008)."""


def draw_candidates(targets: Tensor, item_count: int, negatives: int) -> Candidates:
    """The targets (int64 [M]) of a batch and up to ``negatives`` other items, drawn uniformly with PyTorch's generator."""
    true_items, columns = torch.unique(targets, return_inverse=True)
    drawn = torch.unique(torch.randint(1, item_count + 1, (negatives,), device=targets.device))
    drawn = drawn[~torch.isin(drawn, true_items)]
    correction = torch.zeros(len(true_items) + len(drawn), device=targets.device)
    if len(drawn):
        correction[len(true_items) :] = math.log((item_count - len(true_items)) / len(drawn))
    return Candidates(torch.cat([true_items, drawn]), items_at(columns), correction)
