import numpy as np
import pytest

from distill.models.teachers.list_calibration import fit_outside, fit_temperature, log_probabilities


def test_a_list_and_what_is_outside_it_share_one():
    owners = np.array([0, 0, 2, 2, 2])
    scores = np.array([3.0, 1.0, 800.0, 0.0, -900.0])
    found = np.exp(log_probabilities(owners, scores, 2.0, 0.25))
    first = 0.75 * np.exp([1.5, 0.5]) / np.exp([1.5, 0.5]).sum()
    np.testing.assert_allclose(found, [*first, 0.75, 0, 0], atol=1e-12)


def test_the_temperature_of_simulated_choices_is_found_again():
    random = np.random.default_rng(0)
    lists, size, temperature = 4000, 12, 3.0
    scores = random.normal(50, 10, (lists, size))
    noise = random.gumbel(size=scores.shape)  # the best of logits plus this noise is a draw of their softmax
    chosen = (scores / temperature + noise).argmax(axis=1)
    is_true = chosen[:, None] == np.arange(size)
    is_true[::2] = False  # lists without their true item teach nothing
    owners = np.repeat(np.arange(lists), size)
    found = fit_temperature(owners, scores.ravel(), is_true.ravel())
    assert found == pytest.approx(temperature, rel=0.1)

    def likelihood(candidate):
        return log_probabilities(owners, scores.ravel(), candidate, 0.1)[is_true.ravel()].sum()

    assert likelihood(found) >= max(likelihood(found * factor) for factor in (0.99, 1.01))


@pytest.mark.parametrize(("scores", "is_true"), [([1.0, 2.0], [False, False]), ([1.0, 1.0], [True, False])])
def test_where_nothing_can_be_learned_the_scores_stay(scores, is_true):
    assert fit_temperature(np.zeros(2, np.int64), np.array(scores), np.array(is_true)) == 1.0


def test_outside_is_never_0_or_1():
    assert fit_outside(hits=10, lists=10) == pytest.approx(1 / 12)
    assert fit_outside(hits=0, lists=10) == pytest.approx(11 / 12)
    assert fit_outside(hits=4, lists=10) == pytest.approx(7 / 12)
