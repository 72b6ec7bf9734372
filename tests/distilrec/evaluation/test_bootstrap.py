import numpy as np
import pytest

from distilrec.evaluation.bootstrap import Difference, difference_of, estimate_of, interval, resampled_means


def test_resampled_means_are_those_of_a_naive_loop():
    values = np.random.default_rng(3).random((57, 2))
    random = np.random.default_rng(5)
    drawn = [random.integers(0, 57, 57) for _ in range(200)]
    naive = [values[users].mean(axis=0) for users in drawn]
    assert resampled_means(values, samples=200, seed=5) == pytest.approx(np.array(naive))


def test_chunks_do_not_change_the_result(monkeypatch):
    values = np.random.default_rng(3).random((40, 3))
    whole = resampled_means(values, samples=101)
    monkeypatch.setattr("distilrec.evaluation.bootstrap._CELLS", 40 * 7)
    assert resampled_means(values, samples=101) == pytest.approx(whole)


def test_intervals_hold_the_true_mean_about_as_often_as_they_say():
    random = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        low, high = interval(resampled_means(random.normal(0.1, 1, (100, 1)), samples=300)[:, 0])
        held += low <= 0.1 <= high
    assert 0.9 <= held / 200 <= 0.99


def test_difference_by_hand():
    drawn, drawn_other = np.array([0.0, 0.1, 0.2]), np.array([0.5, 0.5, 1.0])
    found = difference_of(0.1, 0.5, drawn, drawn_other)
    # The 2.5 % and 97.5 % quantiles of three values lie 0.05 of a step from the ends.
    assert (found.mean, found.low, found.high) == pytest.approx((0.1, 0.005, 0.195))
    assert (found.relative, found.relative_low, found.relative_high) == pytest.approx((0.2, 0.01, 0.2))


def test_difference_to_a_mean_of_zero_is_not_relative():
    assert difference_of(1.0, 0.0, np.ones(9), np.zeros(9)) == Difference(1.0, 1.0, 1.0, None, None, None)
    sometimes_zero = difference_of(1.0, 0.5, np.ones(9), np.array([0.0] + [0.5] * 8))
    assert (sometimes_zero.relative, sometimes_zero.relative_low, sometimes_zero.relative_high) == (2.0, None, None)


def test_estimate_of_seeds_by_hand():
    seeds = np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    estimate = estimate_of(seeds, resampled_means(seeds.mean(axis=0)[:, None])[:, 0])
    assert estimate.mean == pytest.approx(0.5)
    assert estimate.seeds == pytest.approx((2 / 3, 1 / 3))
    assert 0 <= estimate.low < 0.5 < estimate.high <= 1
