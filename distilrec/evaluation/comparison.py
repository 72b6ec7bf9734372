"""What changes for users when one recommender takes the place of another: their answers to the same requests, compared.

All functions take ``former`` and ``new``, int [R, k]: the answers of both to R requests, best first, 0 for an empty rank, in one
numbering of the items.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distilrec.evaluation.metrics import Floats, Ints, hits, overlap

MOST_LISTED = 20
"""Items that a list of newly shown or lost items names at most."""


@dataclass(frozen=True)
class ListComparison:
    """Two recommenders' answers to the same requests."""

    requests: int
    k: int
    overlap: float
    """Share of the former's first k items that are among the new one's first k; mean over requests."""
    identical: float
    """Share of the requests with the same k items in the same order."""
    rank_correlation: float | None
    """Kendall's tau of the items that both lists have; mean over the requests with two such items or more, None without any."""
    newly_shown: list[tuple[int, int]]
    """Items that only the new one shows to anybody, with the number of requests, the most frequent first."""
    lost: list[tuple[int, int]]
    """Items that only the former shows to anybody, likewise."""
    exposure: dict[str, tuple[float, float]]
    """Share of the exposure that each group of items gets from the former and from the new one."""


def compare_lists(former: Ints, new: Ints, groups: Mapping[str, NDArray[np.bool_]] | None = None) -> ListComparison:
    """Compare the answers to R requests, int [R, k] each.

    Args:
        former: Answers of the recommender that serves.
        new: Answers of the other one.
        groups: Masks over item indices, bool [N + 1], by the group's name.
    """
    k = former.shape[1]
    tau = rank_correlations(former, new)
    known = tau[np.isfinite(tau)]
    shown = [
        np.bincount(lists[lists != 0].ravel(), minlength=1 + max(former.max(initial=0), new.max(initial=0)))
        for lists in (former, new)
    ]
    shares = {name: (exposure_share(former, mask), exposure_share(new, mask)) for name, mask in (groups or {}).items()}
    return ListComparison(
        requests=len(former),
        k=k,
        overlap=float(overlap(former, new, k).mean()),
        identical=float((former == new).all(axis=1).mean()),
        rank_correlation=float(known.mean()) if len(known) else None,
        newly_shown=_most_frequent(np.where(shown[0] == 0, shown[1], 0)),
        lost=_most_frequent(np.where(shown[1] == 0, shown[0], 0)),
        exposure=shares,
    )


def rank_correlations(former: Ints, new: Ints) -> Floats:
    """Kendall's tau (Kendall 1938) of the items that both lists of a request have, float64 [R]; NaN where there are fewer than two.

    It is 1 where both have these items in the same order, and -1 where one has them in the reverse order of the other.
    """
    values = np.full(len(former), np.nan)
    for row, (one, other) in enumerate(zip(former, new, strict=True)):
        place = {item: rank for rank, item in enumerate(other.tolist()) if item}
        ranks = np.array([place[item] for item in one.tolist() if item in place])
        if (count := len(ranks)) >= 2:
            above = np.triu(np.sign(ranks[None, :] - ranks[:, None]), 1).sum()
            values[row] = 2 * above / (count * (count - 1))
    return values


def exposure_share(lists: Ints, group: NDArray[np.bool_]) -> float:
    """Share of the exposure that a group of items gets, where rank r (from 1) is worth 1 / log2(r + 1) (Singh and Joachims 2018).

    Args:
        lists: Answers, int [R, k].
        group: Mask over item indices, bool [N + 1].
    """
    worth = np.where(lists != 0, 1 / np.log2(np.arange(2, lists.shape[1] + 2)), 0.0)
    total = worth.sum()
    return float((worth * group[lists]).sum() / total) if total else 0.0


def changed_ranks(former: Ints, new: Ints) -> NDArray[np.bool_]:
    """Which of the new one's items the former does not show to the same request, bool [R, k]."""
    changed: NDArray[np.bool_] = ~hits(new, former, new.shape[1]) & (new != 0)
    return changed


def _most_frequent(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    order = np.argsort(-counts, kind="stable")[:MOST_LISTED]
    return [(int(item), int(counts[item])) for item in order if counts[item]]
