import numpy as np
import pytest

from distilrec.evaluation.drift import DRIFTED_INDEX, measure_drift, popularity_index, stability_index

LENGTH = 20


def training(random, items=500, users=2000):
    """Zipf popularity and lengths around ten."""
    popularity = 1 / np.arange(1, items + 1)
    counts = np.concatenate([[0], random.multinomial(40_000, popularity / popularity.sum())])
    return counts, random.poisson(10, users) + 1


def live(random, counts, requests=1000, mean=10, shares=None):
    shares = counts[1:] / counts.sum() if shares is None else shares
    return [random.choice(len(shares), random.poisson(mean) + 1, p=shares) + 1 for _ in range(requests)]


def test_index_is_that_of_the_formula():
    expected, actual = np.array([50.0, 30, 20]), np.array([20.0, 30, 50])
    assert stability_index(expected, actual) == pytest.approx(2 * 0.3 * np.log(2.5))
    assert stability_index(expected, expected * 7) == 0
    assert np.isfinite(stability_index(np.array([1.0, 0]), np.array([0.0, 1])))


def test_traffic_like_the_training_does_not_drift():
    random = np.random.default_rng(0)
    counts, lengths = training(random)
    found = measure_drift(live(random, counts), counts, lengths, LENGTH)
    assert found.drifted is False
    assert max(found.popularity_index, found.length_index) < 0.05
    assert found.head_share == pytest.approx(found.training_head_share, abs=0.02)
    assert found.reason.startswith("no drift: 1,000 live requests")


@pytest.mark.parametrize(
    ("change", "shows"), [("popularity", "popularity_index"), ("length", "length_index"), ("unknown", "unknown_share")]
)
def test_each_kind_of_drift_is_found_alone(change, shows):
    random = np.random.default_rng(1)
    counts, lengths = training(random)
    shares = None
    if change == "popularity":  # the tail has become the head
        shares = counts[:0:-1] / counts.sum()
    histories = live(random, counts, mean=3 if change == "length" else 10, shares=shares)
    if change == "unknown":
        histories = [np.where(random.random(len(history)) < 0.3, 0, history) for history in histories]
    found = measure_drift(histories, counts, lengths, LENGTH)
    beyond = {"popularity_index": DRIFTED_INDEX, "length_index": DRIFTED_INDEX, "unknown_share": 0.1}
    assert [name for name, limit in beyond.items() if getattr(found, name) > limit] == [shows]
    assert found.drifted


def test_few_or_empty_requests_are_no_drift():
    counts, lengths = training(np.random.default_rng(2))
    found = measure_drift([[1, 2], [], [0]], counts, lengths, LENGTH)
    assert (found.requests, found.popularity_index, found.drifted) == (3, None, None)
    assert (found.empty_share, found.unknown_share) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert "too few to say" in found.reason


def test_one_item_with_most_of_the_interactions_has_bands_all_the_same():
    counts = np.array([0, 900, 50, 50, 0])
    assert popularity_index(np.array([1] * 9 + [2]), counts) < 0.1
    assert popularity_index(np.array([4] * 10), counts) > DRIFTED_INDEX
