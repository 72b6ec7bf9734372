"""Confidence intervals of means over users by the bootstrap, paired where two models answer the same users.

The intervals are percentile intervals (Efron and Tibshirani 1993, chapter 13). Only users are resampled; the spread over seeds
is reported separately.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SAMPLES = 2000
"""Number of times that the users are drawn."""

SEED = 0
"""Random seed of the draws."""

LEVEL = 0.95
"""Share of the resampled means that lies within an interval."""

_CELLS = 1 << 22
"""Largest number of draws that are held in memory at once (32 MiB of int64)."""


@dataclass(frozen=True)
class Estimate:
    """A mean over users with its interval."""

    mean: float
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""
    seeds: tuple[float, ...]
    """The mean of each seed."""


@dataclass(frozen=True)
class Difference:
    """The mean of one model less that of another, over the same users."""

    mean: float
    low: float
    high: float
    relative: float | None
    """``mean`` as a share of the other model's mean; None where that mean is 0."""
    relative_low: float | None
    """Lower end of the interval of ``relative``; None where the other model's mean is 0 in some sample."""
    relative_high: float | None


def resampled_means(values: Floats, *, samples: int = SAMPLES, seed: int = SEED) -> Floats:
    """Means of all columns over users drawn with replacement; each draw takes the same users for all columns.

    Args:
        values: One row for each of U users, float64 [U, M].
        samples: Number of draws.
        seed: Random seed of the draws.

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
    """The mean of ``values`` over S seeds and U users, float64 [S, U], with the interval of ``drawn``, float64 [samples]."""
    low, high = interval(drawn)
    return Estimate(float(values.mean()), low, high, tuple(float(mean) for mean in values.mean(axis=1)))


def difference_of(difference: float, other: float, drawn: Floats, drawn_other: Floats) -> Difference:
    """A mean difference with its intervals.

    Args:
        difference: The difference of the means.
        other: The mean of the model that the other one is compared with.
        drawn: Resampled differences, float64 [samples].
        drawn_other: Resampled means of that model, float64 [samples], over the same draws.
    """
    relative = difference / other if other else None
    relative_low, relative_high = interval(drawn / drawn_other) if (drawn_other != 0).all() else (None, None)
    return Difference(difference, *interval(drawn), relative, relative_low, relative_high)


def interval(drawn: Floats) -> tuple[float, float]:
    """The range that holds the middle ``LEVEL`` of the values, float64 [samples]."""
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
