"""How far a mean over users can be trusted: the bootstrap over users, paired where two systems answered the same ones.

Percentile intervals (Efron and Tibshirani 1993, chapter 13). What is resampled are the users that were judged; the spread over
seeds is another question, and is reported beside.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SAMPLES = 2000
SEED = 0
LEVEL = 0.95
"""Share of the resampled means that lies within an interval."""

_CELLS = 1 << 22
"""Numbers held at once while resampling."""


@dataclass(frozen=True)
class Estimate:
    """A mean over users."""

    mean: float
    low: float
    """Lower end of the interval."""
    high: float
    seeds: tuple[float, ...]
    """The mean of each seed."""


@dataclass(frozen=True)
class Difference:
    """One system's mean less another's, over the same users."""

    mean: float
    low: float
    high: float
    relative: float | None
    """``mean`` as a share of the other's mean; None where that is 0."""
    relative_low: float | None
    """None where the other's mean is 0 in some sample."""
    relative_high: float | None


def resampled_means(values: Floats, *, samples: int = SAMPLES, seed: int = SEED) -> Floats:
    """Means of all columns over users drawn with replacement, all columns over the same users.

    Args:
        values: float64 [U, M].
        samples: number of draws.
        seed: of the draws.

    Returns:
        float64 [samples, M].
    """
    random = np.random.default_rng(seed)
    users = len(values)
    at_once = max(1, _CELLS // users)
    means = []
    for start in range(0, samples, at_once):
        rows = min(at_once, samples - start)
        drawn = random.integers(0, users, (rows, users)) + users * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users)  # how often each user was drawn
        means.append(times.astype(np.float64) @ values / users)
    return np.concatenate(means)


def estimate_of(values: Floats, drawn: Floats) -> Estimate:
    """The mean of ``values``, float64 [S, U], with the interval of its resampled means, float64 [samples]."""
    low, high = interval(drawn)
    return Estimate(float(values.mean()), low, high, tuple(float(mean) for mean in values.mean(axis=1)))


def difference_of(difference: float, other: float, drawn: Floats, drawn_other: Floats) -> Difference:
    """A mean difference with its interval, from the resampled differences and the other's resampled means, float64 [samples]."""
    relative = difference / other if other else None
    relative_low, relative_high = interval(drawn / drawn_other) if (drawn_other != 0).all() else (None, None)
    return Difference(difference, *interval(drawn), relative, relative_low, relative_high)


def interval(drawn: Floats) -> tuple[float, float]:
    """The range that holds the middle ``LEVEL`` of the values, float64 [samples]."""
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
