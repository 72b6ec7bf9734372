"""Loss ``stratified``: ranking within groups of equally popular items (UnKD, Chen et al. 2023, arXiv:2211.14729)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from distill.losses._base import LogitLoss, LossSetup, TeacherLogits
from distill.losses.partition import StudentLogits
from distilrec.config.section import Positive

_IMPORTANCE = 20.0
"""As in the authors' code."""


class StratifiedLoss(LogitLoss):
    """Pairs of items of similar popularity (UnKD, Chen et al. 2023)."""

    name = "stratified"

    groups: Positive = 10
    """Popularity groups of equal weight."""
    importance: Annotated[float, Field(gt=0)] = _IMPORTANCE
    """Ranks within a group over which the weight of a pair falls by a factor of e, for each of its two items."""

    def state(self, setup: LossSetup) -> "_Strata":
        """See ``LogitLoss``."""
        return _Strata(popularity_strata(setup.item_counts[1:], self.groups))

    def values(self, student: StudentLogits, teacher: TeacherLogits, state: nn.Module) -> Tensor:
        """See ``LogitLoss``."""
        assert isinstance(state, _Strata)
        return stratified_ranking(student.top, state.by_item[teacher.items], self.importance)


class _Strata(nn.Module):
    """Popularity group of each item.

    Args:
        strata: int64 [N], of items 1..N.
    """

    by_item: Tensor
    """int64 [N + 1], by item index."""

    def __init__(self, strata: Tensor) -> None:
        super().__init__()
        self.register_buffer("by_item", functional.pad(strata, (1, 0)), persistent=False)


def popularity_strata(counts: Tensor, groups: int) -> Tensor:
    """Group items so that each group has about the same share of all interactions (UnKD, Chen et al. 2023, arXiv:2211.14729).

    Args:
        counts: int64 [N], training interactions of each item.
        groups: number of groups, at least 1; one whose share a single item outweighs stays empty.

    Returns:
        int64 [N], 0 (the most popular items, the head) .. groups - 1; ties in popularity go by item index.
    """
    order = counts.argsort(descending=True, stable=True)
    before = counts[order].cumsum(0) - counts[order]  # interactions of all more popular items
    strata = torch.empty_like(counts)
    strata[order] = (before * groups // counts.sum().clamp(min=1)).clamp(max=groups - 1)
    return strata


def stratified_ranking(top: Tensor, strata: Tensor, importance: float = _IMPORTANCE) -> Tensor:
    """-log sigmoid(s_i - s_j) over pairs of equally popular items that the teacher ranks i above j (UnKD, arXiv:2211.14729).

    The items of a pair are equally popular, so the student does not learn the teacher's bias towards popular items.
    UnKD draws pairs of each stratum by p(i) ~ exp(-rank(i) / importance), ranks within the stratum. Here:

    - only the teacher's top n are known, so pairs are of these, and a stratum with fewer than two of them is left out;
    - instead of drawing, pairs are weighted by p(i) p(j), and only those whose ranks differ by 1, 2, 4, 8, ... are taken:
      neighbours fix the order, wider pairs the spread, and it is O(n log n);
    - weights sum to 1 in each stratum, and each stratum with a pair counts the same.

    Args:
        top: float32 [M, n], the student's logits of the teacher's top n items, best first.
        strata: int64 [M, n], the stratum of each of these items (``popularity_strata(...)[items]``).
        importance: how fast pairs lose weight as ranks fall; 20 in the authors' code.

    Returns:
        float32 [M], reduction: none; 0 where no stratum has two items.
    """
    count = top.shape[1]
    offsets = [1 << power for power in range((count - 1).bit_length())]
    if not offsets:
        return top.sum(dim=1) * 0
    strata, order = strata.sort(dim=1, stable=True)  # strata side by side, each in the teacher's order
    first = torch.searchsorted(strata, strata)  # where the item's stratum begins
    rank = torch.arange(count, device=top.device) - first
    chance = torch.exp(-rank / importance)
    scores = top.gather(1, order)

    starts = torch.cat([first[:, :-offset] for offset in offsets], dim=1)  # (M, pairs), as all below
    same = torch.cat([strata[:, :-offset] == strata[:, offset:] for offset in offsets], dim=1)
    weights = torch.cat([chance[:, :-offset] * chance[:, offset:] for offset in offsets], dim=1) * same
    gaps = torch.cat([scores[:, :-offset] - scores[:, offset:] for offset in offsets], dim=1)

    sums = torch.zeros_like(top).scatter_add(1, starts, weights)  # of each stratum, at its beginning
    shares = weights / sums.gather(1, starts).clamp(min=torch.finfo(sums.dtype).tiny)
    return (shares * functional.softplus(-gaps)).sum(dim=1) / (sums > 0).sum(dim=1).clamp(min=1)
