"""Ranking metrics over the whole catalogue, one small function each.

Unless stated otherwise, all take ``ranked`` int [U, K] (item indices, best first, 0 = empty) and ``truth`` int [U, T] (right
answers in any order, 0 = padding), and return one value for each user, float64 [U]. A list with fewer than k items counts as if
it was filled with wrong items. A user without any right answer gets 0 and should be left out beforehand.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]
Metric = Callable[[Ints, Ints, int], Floats]


def hits(ranked: Ints, truth: Ints, k: int) -> NDArray[np.bool_]:
    """Whether each of the first k items is a right answer, bool [U, min(k, K)]."""
    top = ranked[:, :k, None]
    found: NDArray[np.bool_] = ((top == truth[:, None, :]) & (top != 0)).any(axis=2)
    return found


def hit_rate(ranked: Ints, truth: Ints, k: int) -> Floats:
    """HR@k: 1 when a right answer is among the first k, else 0."""
    return np.where(hits(ranked, truth, k).any(axis=1), 1.0, 0.0)


def ndcg(ranked: Ints, truth: Ints, k: int) -> Floats:
    """NDCG@k with binary gains: sum of 1 / log2(rank + 1) over hits, divided by the best possible sum.

    Jaervelin and Kekaelaeinen 2002. With one right answer this is 1 / log2(rank + 1).
    """
    found = hits(ranked, truth, k)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    gained = (found * discounts[: found.shape[1]]).sum(axis=1)
    right_answers = np.minimum((truth != 0).sum(axis=1), k)
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[right_answers]
    return np.divide(gained, ideal, out=np.zeros(len(truth)), where=ideal > 0)


def mrr(ranked: Ints, truth: Ints, k: int) -> Floats:
    """MRR@k: 1 / rank of the first right answer among the first k, else 0 (Voorhees 1999)."""
    found = hits(ranked, truth, k)
    return np.where(found.any(axis=1), 1.0 / (found.argmax(axis=1) + 1), 0.0)


def overlap(ranked: Ints, other: Ints, k: int) -> Floats:
    """Overlap@k of two rankings: share of the first k items of ``ranked`` that are among the first k of ``other``.

    Empty ranks (0) of ``ranked`` do not count; a row of empty ranks alone has overlap 1.
    """
    shared = hits(ranked, other[:, :k], k).sum(axis=1)
    counted = (ranked[:, :k] != 0).sum(axis=1)
    return np.divide(shared, counted, out=np.ones(len(ranked)), where=counted > 0)


def popularity(ranked: Ints, counts: Ints, k: int) -> Floats:
    """Average recommendation popularity@k: mean training count of the first k items (Yin et al. 2012; Abdollahpouri et al. 2019).

    Args:
        ranked: Recommended items, int [U, K].
        counts: Training interactions of each item, int [N + 1], 0 for padding.
        k: Number of items that count. Empty ranks do not count; a row of empty ranks alone gets 0.
    """
    top = ranked[:, :k]
    filled = (top != 0).sum(axis=1)
    return np.divide(np.where(top != 0, counts[top], 0).sum(axis=1), filled, out=np.zeros(len(ranked)), where=filled > 0)


def coverage(ranked: Ints, item_count: int, k: int) -> float:
    """Catalogue coverage@k: share of the items 1..N that are among the first k of at least one user (Ge et al. 2010)."""
    shown = np.unique(ranked[:, :k])
    return float((shown != 0).sum() / item_count)


METRICS: dict[str, Metric] = {"ndcg": ndcg, "hr": hit_rate, "mrr": mrr}
