import numpy as np
import pytest

from distilrec.evaluation.bootstrap import Difference, estimate_of, paired_bootstrap, resampled_means


def values(users: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    b = random.random(users)
    return b + random.normal(0.05, 0.2, users), b


def naive(a: np.ndarray, b: np.ndarray, samples: int, seed: int) -> Difference:
    random = np.random.default_rng(seed)
    drawn = [random.integers(0, len(a), len(a)) for _ in range(samples)]
    differences = [a[users].mean() - b[users].mean() for users in drawn]
    relative = [(a[users].mean() - b[users].mean()) / b[users].mean() for users in drawn]
    mean = a.mean() - b.mean()
    return Difference(
        mean,
        float(np.percentile(differences, 2.5)),
        float(np.percentile(differences, 97.5)),
        mean / b.mean(),
        float(np.percentile(relative, 2.5)),
        float(np.percentile(relative, 97.5)),
    )


def as_tuple(difference: Difference) -> list[float]:
    return [getattr(difference, name) for name in Difference.__dataclass_fields__]


def test_equals_a_naive_loop():
    a, b = values(57)
    assert as_tuple(paired_bootstrap(a, b, samples=200, seed=5)) == pytest.approx(as_tuple(naive(a, b, 200, 5)))


def test_chunks_do_not_change_the_result(monkeypatch):
    a, b = values(40)
    whole = paired_bootstrap(a, b, samples=101)
    monkeypatch.setattr("distilrec.evaluation.bootstrap._CELLS", 40 * 7)
    assert as_tuple(paired_bootstrap(a, b, samples=101)) == pytest.approx(as_tuple(whole))


def test_identical_systems_differ_by_exactly_nothing():
    a, _ = values(300)
    assert as_tuple(paired_bootstrap(a, a.copy())) == [0, 0, 0, 0, 0, 0]


def test_a_constant_gain_is_certain_although_users_differ():
    _, b = values(100)
    difference = paired_bootstrap(b + 0.1, b)
    assert (difference.mean, difference.low, difference.high) == pytest.approx((0.1, 0.1, 0.1))


def test_order_of_the_systems_turns_the_sign():
    a, b = values(80)
    forth, back = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert (forth.mean, forth.low, forth.high) == pytest.approx((-back.mean, -back.high, -back.low))


def test_other_systems_mean_of_nothing_has_no_relative_difference():
    difference = paired_bootstrap(np.ones(30), np.zeros(30))
    assert difference.mean == 1
    assert difference.relative is difference.relative_low is difference.relative_high is None


def test_seeds_are_averaged_for_each_user():
    a = np.stack([values(60, seed)[0] for seed in (1, 2, 3)])
    b = np.stack([values(60, seed)[1] for seed in (1, 2, 3)])
    assert paired_bootstrap(a, b) == paired_bootstrap(a.mean(axis=0), b.mean(axis=0))


def test_intervals_hold_the_true_mean_about_as_often_as_they_say():
    random = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        b = random.random(100)
        difference = paired_bootstrap(b + random.normal(0.1, 1, 100), b, samples=300)
        held += difference.low <= 0.1 <= difference.high
    assert 0.9 <= held / 200 <= 0.99


def test_estimate_of_seeds_by_hand():
    seeds = np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    estimate = estimate_of(seeds, resampled_means(seeds.mean(axis=0)[:, None])[:, 0])
    assert estimate.mean == pytest.approx(0.5)
    assert estimate.seeds == pytest.approx((2 / 3, 1 / 3))
    assert 0 <= estimate.low < 0.5 < estimate.high <= 1
