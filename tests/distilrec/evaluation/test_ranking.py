import numpy as np
import pytest

from distilrec.data.dataset import HeldOut
from distilrec.evaluation import bootstrap
from distilrec.evaluation.metrics import coverage, ndcg, popularity
from distilrec.evaluation.ranking import (
    compare_metrics,
    cuts,
    evaluate_runners,
    join_seeds,
    primary,
    ranking_metrics,
    regressions,
    user_metrics,
)
from distilrec.evaluation.slices import Slice

USERS, ITEMS = 60, 30
RANDOM = np.random.default_rng(1)
COUNTS = np.concatenate([[0], np.arange(ITEMS, 0, -1)])
FIRST = np.arange(USERS) < 25


def held_out_users() -> HeldOut:
    truth = RANDOM.integers(1, ITEMS + 1, (USERS, 1)).astype(np.int32)
    empty = np.zeros((USERS, 4), np.int32)
    return HeldOut(np.arange(USERS), np.arange(USERS, dtype=np.int32)[:, None] + empty, empty, truth, 0, 0)


class Ranks:
    """Answers user u with row u of a table; the first entry of a history says who asks."""

    def __init__(self, items):
        self.items = items

    def recommend(self, history, exclude, choices):  # noqa: ARG002
        items = self.items[history[:, 0]]
        return items, np.zeros(items.shape, np.float32)


def rankings(users: HeldOut, right: float) -> np.ndarray:
    """Random lists of 20; a share of the users find their right answer first."""
    items = np.stack([RANDOM.permutation(ITEMS)[:20] + 1 for _ in range(USERS)]).astype(np.int32)
    items[:, 0] = np.where(RANDOM.random(USERS) < right, users.truth[:, 0], items[:, 0])
    return items


@pytest.fixture(scope="module")
def users():
    return held_out_users()


@pytest.fixture(scope="module")
def answers(users):
    return {"strong": rankings(users, 0.9), "weak": rankings(users, 0.2)}


SLICES = [Slice("first", "the first 25", FIRST), Slice("last", "the others", ~FIRST)]


def test_means_are_those_of_the_metrics(users, answers):
    evaluation = evaluate_runners({name: Ranks(items) for name, items in answers.items()}, users, COUNTS, SLICES)
    for model, items in answers.items():
        found = {name: estimate.mean for name, estimate in evaluation.everybody.estimates[model].items()}
        for name, mean in ranking_metrics(items, users, (5, 10, 20)).items():
            assert found[name] == pytest.approx(mean)
        assert found["popularity@5"] == pytest.approx(popularity(items, COUNTS, 5).mean())
        assert evaluation.coverage[model]["coverage@5"] == coverage(items, ITEMS, 5)
        first = evaluation.slices["first"].estimates[model]["ndcg@10"]
        assert first.mean == pytest.approx(ndcg(items, users.truth, 10)[FIRST].mean())
        assert first.low < first.mean < first.high
    assert evaluation.everybody.differences == {}
    assert (evaluation.slices["first"].users, evaluation.slices["last"].users) == (25, 35)


def test_differences_are_those_of_a_naive_paired_bootstrap(users, answers):
    metrics = {name: user_metrics(items, users, COUNTS) for name, items in answers.items()}
    evaluation = compare_metrics(metrics, SLICES, references=("weak",))
    found = evaluation.slices["last"].differences["weak"]["strong"]["ndcg@10"]
    a, b = (ndcg(answers[name], users.truth, 10)[~FIRST] for name in ("strong", "weak"))
    random = np.random.default_rng(bootstrap.SEED)
    drawn = [random.integers(0, len(a), len(a)) for _ in range(bootstrap.SAMPLES)]
    absolute = [a[some].mean() - b[some].mean() for some in drawn]
    relative = [a[some].mean() / b[some].mean() - 1 for some in drawn]
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert [found.low, found.high] == pytest.approx(np.percentile(absolute, [2.5, 97.5]))
    assert [found.relative_low, found.relative_high] == pytest.approx(np.percentile(relative, [2.5, 97.5]))
    assert "weak" not in evaluation.everybody.differences["weak"]


def test_identical_models_differ_by_exactly_nothing(users, answers):
    metrics = {name: user_metrics(answers["strong"], users, COUNTS) for name in ("one", "other")}
    difference = compare_metrics(metrics, SLICES, references=("one",)).everybody.differences["one"]["other"]["ndcg@10"]
    assert set(vars(difference).values()) == {0}


def test_seeds_are_averaged(users, answers):
    seeds = [user_metrics(answers[name], users, COUNTS) for name in ("strong", "weak")]
    evaluation = compare_metrics({"both": join_seeds(seeds)}, SLICES)
    estimate = evaluation.everybody.estimates["both"]["hr@5"]
    means = tuple(ranking_metrics(answers[name], users, (5,))["hr@5"] for name in ("strong", "weak"))
    assert estimate.seeds == pytest.approx(means)
    assert estimate.mean == pytest.approx(np.mean(means))
    shown = [coverage(answers[name], ITEMS, 10) for name in ("strong", "weak")]
    assert evaluation.coverage["both"]["coverage@10"] == pytest.approx(np.mean(shown))


def test_regressions_are_reported_where_they_are_and_distinguished_from_chance(users, answers):
    mixed = np.where(FIRST[:, None], answers["weak"], answers["strong"])  # loses for the first 25 only
    metrics = {name: user_metrics(items, users, COUNTS) for name, items in {**answers, "mixed": mixed}.items()}
    evaluation = compare_metrics(metrics, SLICES, references=("strong", "weak"))
    (lost,) = regressions(evaluation, "mixed", "strong")
    assert (lost.slice, lost.users, lost.clear) == ("first", 25, True)
    assert lost.difference.high < 0
    assert regressions(evaluation, "strong", "weak") == []
    one_worse = answers["strong"].copy()
    one_worse[np.flatnonzero(FIRST & (one_worse[:, 0] == users.truth[:, 0]))[0], 0] = 0
    metrics["one worse"] = user_metrics(one_worse, users, COUNTS)
    (lost,) = regressions(compare_metrics(metrics, SLICES, references=("strong",)), "one worse", "strong")
    assert lost.difference.mean < 0
    assert not lost.clear


def test_lists_are_not_cut_beyond_their_length():
    assert (cuts(100), cuts(12), cuts(3)) == ((5, 10, 20), (5, 10), (3,))
    assert (primary((5, 10, 20)), primary((5,)), primary((3,))) == ("ndcg@10", "ndcg@5", "ndcg@3")
