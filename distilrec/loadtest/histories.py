"""Histories for requests, in which some items are popular and most are rare; pure functions."""

import numpy as np
from numpy.typing import NDArray

from distilrec.core.specs import PADDING, RecommenderSpec

_DRAWS_PER_ITEM = 2  # popular items are drawn repeatedly


def zipf_probabilities(item_count: int, exponent: float) -> NDArray[np.float64]:
    """Return item probabilities by Zipf's law: the item of rank r has a probability in proportion to r ** -exponent.

    Args:
        item_count: N, the number of items.
        exponent: Exponent of the law. 0 makes all items equally likely; 1 is usual for catalogues.

    Returns:
        float64 [N]: falling probabilities whose sum is 1.
    """
    weights = np.arange(1, item_count + 1, dtype=np.float64) ** -exponent
    return np.divide(weights, weights.sum())


def draw_histories(spec: RecommenderSpec, count: int, exponent: float, random: np.random.Generator) -> NDArray[np.int32]:
    """Draw valid histories with Zipf item popularity, of all lengths from 1 to L.

    The popular items are drawn at random, too. No history contains an item twice. A history is shorter if too few different items
    were drawn, which happens in catalogues hardly larger than L.

    Args:
        spec: Sizes of the recommender.
        count: Number of histories.
        exponent: Exponent of Zipf's law.
        random: Random generator.

    Returns:
        int32 [count, L]: item indices 1..N, padded with 0 on the left.
    """
    bounds = np.cumsum(zipf_probabilities(spec.item_count, exponent))
    item_of_rank = random.permutation(spec.item_count).astype(np.int32) + 1
    histories = np.full((count, spec.history_length), PADDING, np.int32)
    for row, length in enumerate(random.integers(1, spec.history_length + 1, count)):
        # Rounding can leave the last bound a little below 1.
        ranks = np.searchsorted(bounds, random.uniform(0.0, bounds[-1], _DRAWS_PER_ITEM * length), side="right")
        _, first = np.unique(ranks, return_index=True)
        items = item_of_rank[ranks[np.sort(first)[:length]]]
        histories[row, spec.history_length - len(items) :] = items
    return histories


def draw_filters(value_count: int, count: int, share: float, random: np.random.Generator) -> NDArray[np.int32]:
    """Draw the attribute value that each request filters by.

    Args:
        value_count: Number of values of all attributes, of which all are equally likely.
        count: Number of requests.
        share: Share of the requests that filter.
        random: Random generator.

    Returns:
        int32 [count]: codes of values; 0 for a request without a filter.
    """
    values = random.integers(1, value_count + 1, count)
    return np.where(random.random(count) < share, values, PADDING).astype(np.int32)
