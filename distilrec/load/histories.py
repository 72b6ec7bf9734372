"""Histories to ask about: some items stand in many of them, most in few; pure functions."""

import numpy as np
from numpy.typing import NDArray

from distilrec.core.specs import PADDING, RecommenderSpec

_DRAWS_A_PLACE = 2


def zipf_probabilities(item_count: int, exponent: float) -> NDArray[np.float64]:
    """Zipf's law: the item of rank r is met in proportion to r ** -exponent.

    Args:
        item_count: N.
        exponent: 0 makes all items alike; 1 is the usual finding for catalogues.

    Returns:
        float64 [N], falling, of sum 1.
    """
    weights = np.arange(1, item_count + 1, dtype=np.float64) ** -exponent
    return np.divide(weights, weights.sum())


def draw_histories(spec: RecommenderSpec, count: int, exponent: float, random: np.random.Generator) -> NDArray[np.int32]:
    """Valid histories with Zipf item popularity, of all lengths from 1 to L.

    Which items are popular is drawn, too. No history has an item twice; where too few different ones are drawn, which
    happens in catalogues hardly larger than L, the history is shorter.

    Args:
        spec: sizes of the recommender.
        count: how many histories.
        exponent: of Zipf's law.
        random: source of randomness.

    Returns:
        int32 [count, L]: item indices 1..N, left-padded with 0.
    """
    bounds = np.cumsum(zipf_probabilities(spec.item_count, exponent))
    item_of_rank = random.permutation(spec.item_count).astype(np.int32) + 1
    histories = np.full((count, spec.history_length), PADDING, np.int32)
    for row, length in enumerate(random.integers(1, spec.history_length + 1, count)):
        # Rounding can leave the last bound a little below 1.
        ranks = np.searchsorted(bounds, random.uniform(0.0, bounds[-1], _DRAWS_A_PLACE * length), side="right")
        _, first = np.unique(ranks, return_index=True)
        items = item_of_rank[ranks[np.sort(first)[:length]]]
        histories[row, spec.history_length - len(items) :] = items
    return histories
