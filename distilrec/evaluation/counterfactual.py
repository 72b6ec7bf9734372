"""What another recommender would have brought, estimated from what one has shown and what came of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distilrec.evaluation.bootstrap import SAMPLES, SEED, Floats, interval


@dataclass(frozen=True)
class CounterfactualEstimate:
    """Mean reward of a shown item, had the other recommender chosen the items."""

    value: float
    low: float
    """Lower end of the 95 % interval over requests."""
    high: float
    requests: int
    """Requests with at least one shown item that the recommender would show, too."""
    effective_items: float
    """Number of equally weighted items that would be as informative, (sum of weights)^2 / sum of squares (Kish 1965)."""


def snips(shown_too: NDArray[np.bool_], propensities: Floats, rewards: Floats) -> CounterfactualEstimate | None:
    """Self-normalised inverse propensity scoring (Swaminathan and Joachims 2015).

    A logged item counts where the other recommender would show it, too, with the inverse of the probability with which it was
    shown; the weights are divided by their sum. So the estimate lies within the range of the rewards, with a bias that vanishes as
    the log grows. Items count by themselves, not by their rank (the item model of Li et al. 2018).

    Args:
        shown_too: Whether the recommender would show each logged item, bool [R, S]; False for padding.
        propensities: Probability with which each item was shown, float64 [R, S], above 0.
        rewards: What each shown item brought, float64 [R, S].

    Returns:
        The estimate; None where the recommender would show none of the logged items.
    """
    weights = np.where(shown_too, 1 / propensities, 0.0)
    total, gained = weights.sum(axis=1), (weights * rewards).sum(axis=1)
    if not total.sum():
        return None
    random = np.random.default_rng(SEED)
    drawn = []
    for _ in range(SAMPLES):
        rows = random.integers(0, len(total), len(total))
        if (of_rows := total[rows].sum()) > 0:
            drawn.append(gained[rows].sum() / of_rows)
    low, high = interval(np.array(drawn))
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    return CounterfactualEstimate(float(gained.sum() / total.sum()), low, high, int((total > 0).sum()), effective)
