"""Sampled softmax, for catalogues too large to score whole: the true items of a batch against randomly drawn items.

With soft targets, the teacher's items of each prediction are scored as well, so that only the mass of all others is estimated.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from distill.data.indices import columns_of, items_at
from distill.losses.partition import NOWHERE, StudentLogits, split_logits

_DRAWN = 1024
_SMALLEST_SAMPLED = 8 * _DRAWN


class Candidates(NamedTuple):
    """The items that the M predictions of a batch choose from."""

    items: Tensor
    """int64 [C], indices 1..N, each once."""
    targets: Tensor
    """int64 [M]: index 1..C of each target in the catalogue that ``items`` are."""
    correction: Tensor
    """float32 [C], added to the logits: a drawn item stands for all that were not drawn (Bengio and Senecal 2008)."""


def drawn_items(setting: int | Literal["auto", "all"], item_count: int) -> int | None:
    """Items that each step draws by the setting ``negatives``; None where the whole catalogue of N items is scored."""
    if setting == "auto":
        return _DRAWN if item_count >= _SMALLEST_SAMPLED else None
    return None if setting == "all" else setting


def draw_candidates(targets: Tensor, item_count: int, negatives: int) -> Candidates:
    """The targets (int64 [M]) of a batch and up to ``negatives`` other items, drawn uniformly with PyTorch's generator."""
    true_items, columns = torch.unique(targets, return_inverse=True)
    drawn = torch.unique(torch.randint(1, item_count + 1, (negatives,), device=targets.device))
    drawn = drawn[~torch.isin(drawn, true_items)]
    correction = torch.zeros(len(true_items) + len(drawn), device=targets.device)
    if len(drawn):
        correction[len(true_items) :] = math.log((item_count - len(true_items)) / len(drawn))
    return Candidates(torch.cat([true_items, drawn]), items_at(columns), correction)


def columns_in_sample(candidates: Candidates, items: Tensor, item_count: int) -> Tensor:
    """Index 1..C of items (1..N, any shape) in the catalogue that ``candidates.items`` are; 0 for those that were not drawn."""
    columns = torch.zeros(item_count + 1, dtype=torch.long, device=items.device)
    columns[candidates.items] = torch.arange(1, len(candidates.items) + 1, device=items.device)
    return columns[items]


def own_logits(user_vectors: Tensor, table: Tensor, items: Tensor) -> Tensor:
    """Logits of items of each prediction's own. float32 [M, d], [N, d], int64 [M, n] (1..N) -> float32 [M, n]."""
    vectors = functional.embedding(columns_of(items), table)  # (M, n, d)
    return torch.bmm(vectors, user_vectors[:, :, None])[:, :, 0].float()


def split_sample(logits: Tensor, own: Tensor, targets: Tensor, items: Tensor) -> StudentLogits:
    """As ``split_logits``, at T = 1, where the catalogue is a sample: masses outside the top n are estimates, all else is exact.

    Args:
        logits: float32 [M, C], of the sample, with its correction.
        own: float32 [M, n], of the teacher's top n items.
        targets: int64 [M], index 1..C of the true items in the sample; 0 where there is none.
        items: int64 [M, n], index 1..C of the teacher's items in the sample; 0 where it lacks one.
    """
    # One more column, for the items that the sample lacks.
    split = split_logits(functional.pad(logits, (1, 0), value=NOWHERE), targets + 1, items + 1)
    return split._replace(top=own)
