import itertools

import numpy as np
import pytest

from distilrec.evaluation.comparison import compare_lists, exposure_share, rank_correlations
from distilrec.evaluation.counterfactual import snips


def naive_tau(one, other):
    common = [item for item in one if item and item in other]
    pairs = list(itertools.combinations(common, 2))
    if not pairs:
        return np.nan
    return sum(1 if list(other).index(a) < list(other).index(b) else -1 for a, b in pairs) / len(pairs)


def test_rank_correlation_equals_a_naive_one():
    random = np.random.default_rng(0)
    lists = [np.array([random.permutation(9)[:5] for _ in range(50)]) for _ in range(2)]
    np.testing.assert_allclose(rank_correlations(*lists), [naive_tau(a, b) for a, b in zip(*lists, strict=True)])


def test_lists_are_compared_by_what_users_see():
    former, new = np.array([[1, 2, 3], [1, 2, 0]]), np.array([[1, 3, 2], [4, 1, 0]])
    group = np.array([False, True, False, False, False])
    found = compare_lists(former, new, {"one": group})
    assert (found.requests, found.k, found.identical) == (2, 3, 0.0)
    assert found.overlap == pytest.approx((1 + 1 / 2) / 2)
    assert found.rank_correlation == pytest.approx(1 / 3)  # of the first request: two pairs in order, one reversed
    assert (found.newly_shown, found.lost) == ([(4, 1)], [])
    worth = [1, 1 / np.log2(3), 1 / 2]
    total = 2 * worth[0] + 2 * worth[1] + worth[2]
    assert found.exposure["one"] == pytest.approx((2 * worth[0] / total, (worth[0] + worth[1]) / total))
    assert exposure_share(np.zeros((2, 3), int), group) == 0


def test_snips_weighs_by_the_inverse_propensity():
    shown = np.array([[True, False], [True, True]])
    estimate = snips(shown, np.array([[0.5, 0.5], [0.25, 1.0]]), np.array([[1.0, 1.0], [0.0, 1.0]]))
    assert estimate.value == pytest.approx((2 + 0 + 1) / (2 + 4 + 1))
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.effective_items == pytest.approx(7**2 / (4 + 16 + 1))
    assert snips(np.zeros((2, 2), bool), np.ones((2, 2)), np.ones((2, 2))) is None


def test_snips_finds_what_the_other_policy_would_have_brought():
    """A log of a uniformly random policy, and a policy that always shows item 0, whose true reward is known."""
    random = np.random.default_rng(1)
    items = random.integers(0, 4, (4000, 1))
    rewards = (random.random(items.shape) < np.array([0.6, 0.1, 0.2, 0.3])[items]).astype(float)
    estimate = snips(items == 0, np.full(items.shape, 0.25), rewards)
    assert estimate.low < 0.6 < estimate.high
    assert estimate.high - estimate.low < 0.1
