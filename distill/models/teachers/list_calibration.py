"""Calibration of lists of scored items: two numbers make them probabilities over the catalogue.

The items of a list share 1 - outside by softmax(scores / temperature), and all other items share ``outside`` evenly. Both are the
values under which the true next items are most likely. The likelihood is a product of one factor for each of them, so each is
fitted alone.
"""

import math

import numpy as np
from numpy.typing import NDArray

_STEPS = 60
_RANGE = 1e3
"""Temperatures tried: from the spread of the scores within a list divided by this, to the spread times this."""


def log_probabilities(
    owners: NDArray[np.int64], scores: NDArray[np.float64], temperature: float, outside: float
) -> NDArray[np.float64]:
    """Log-probability of each entry. float64 [E].

    Args:
        owners: int64 [E], list of each entry, in rising order.
        scores: float64 [E].
        temperature: T.
        outside: Probability of all items together that are not in the list.
    """
    starts, lengths = _segments(owners)
    logits = _from_their_best(scores, starts, lengths) / temperature
    sums = np.log(np.add.reduceat(np.exp(logits), starts))
    probabilities: NDArray[np.float64] = logits - np.repeat(sums, lengths) + math.log1p(-outside)
    return probabilities


def fit_outside(hits: int, lists: int) -> float:
    """The share of lists without their true item, with one more hit and one more miss, so that it is never 0 or 1."""
    return (lists - hits + 1) / (lists + 2)


def fit_temperature(owners: NDArray[np.int64], scores: NDArray[np.float64], is_true: NDArray[np.bool_]) -> float:
    """T under which the true items are most likely among the items of their lists; 1 where nothing can be learned.

    The log-likelihood is concave in 1 / T, and the root of its slope is found by halving an interval: the slope is the score of
    the true item less the expected score.

    Args:
        owners: int64 [E], list of each entry, in rising order.
        scores: float64 [E].
        is_true: bool [E], whether the entry is the true next item, at most one in a list.
    """
    judged = np.isin(owners, owners[is_true])
    owners, scores, is_true = owners[judged], scores[judged], is_true[judged]
    if not len(owners):
        return 1.0
    starts, lengths = _segments(owners)
    scores = _from_their_best(scores, starts, lengths)
    spread = float(np.sqrt((scores**2).mean()))
    if spread == 0:
        return 1.0
    low, high = math.log(spread / _RANGE), math.log(spread * _RANGE)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        weights = np.exp(scores / math.exp(middle))
        expected = np.add.reduceat(weights * scores, starts) / np.add.reduceat(weights, starts)
        if scores[is_true].sum() > expected.sum():  # a sharper distribution is more likely
            high = middle
        else:
            low = middle
    return math.exp((low + high) / 2)


def _segments(owners: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First entry and number of entries of each list that has any."""
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    return starts, np.diff(starts, append=len(owners))


def _from_their_best(scores: NDArray[np.float64], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Scores less the best one of their list."""
    best: NDArray[np.float64] = np.repeat(np.maximum.reduceat(scores, starts), lengths)
    return scores - best
