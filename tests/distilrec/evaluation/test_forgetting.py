"""The verdict on an update."""

import numpy as np
import pytest

from distilrec.data.dataset import HeldOut
from distilrec.evaluation.forgetting import compare_update, judge_update
from distilrec.evaluation.ranking import compare_metrics, user_metrics
from distilrec.evaluation.slices import Slice


def compared(former_hits, updated_hits, users=200):
    """Users of whom the first so many get their right answer first."""
    truth = np.ones((users, 1), np.int32)
    held_out = HeldOut(np.arange(users), truth, truth, truth, 0, 0)
    ranked = [np.where(np.arange(users)[:, None] < hits, 1, 2).astype(np.int32) for hits in (former_hits, updated_hits)]
    metrics = (user_metrics(items, held_out, np.ones(3, np.int64), [10]) for items in ranked)
    models = dict(zip(("former", "updated"), metrics, strict=True))
    half = Slice("second half", "", np.arange(users) >= users // 2)
    return compare_update(compare_metrics(models, [half], references=["former"], ks=[10]))


def test_update_that_gains_or_loses_within_the_budget_is_taken():
    verdict = judge_update(compared(100, 150), compared(150, 148), 0.02)
    assert verdict.taken
    assert "\n" not in verdict.reason
    assert "on 200 users' newest events NDCG@10 is 0.7500 and was 0.5000 (+0.2500" in verdict.reason
    assert judge_update(compared(100, 99), None, 0.02).taken  # too few users to tell


@pytest.mark.parametrize(
    ("newest", "earlier", "reason"),
    [
        ((150, 100), (100, 100), "it is clearly worse on the newest events"),
        ((100, 150), (150, 120), "it has lost 20.0% on earlier users (at most 2.0%)"),
    ],
)
def test_clear_losses_are_refused_and_say_who_lost(newest, earlier, reason):
    verdict = judge_update(compared(*newest), compared(*earlier), 0.02)
    assert not verdict.taken
    assert verdict.reason.startswith(f"the update is not taken: {reason}")
    assert "clearly worse for second half" in verdict.reason


def test_clear_loss_within_the_budget_is_taken():
    assert judge_update(compared(100, 100), compared(200, 192), 0.05).taken
