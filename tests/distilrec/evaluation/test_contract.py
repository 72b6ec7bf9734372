"""The contract itself: what it lets through and what it refuses. Tests of graphs, engines and servers hold every runner to it."""

import numpy as np
import pytest

from distilrec.core.errors import ParityError
from distilrec.core.specs import MASKED_SCORE, RecommenderSpec
from distilrec.data.dataset import HeldOut
from distilrec.evaluation.contract import agreement, check_contract

SPEC = RecommenderSpec(item_count=6, history_length=3, exclude_length=2, top_k=4)
HISTORY = np.array([[0, 1, 2], [0, 0, 0], [4, 5, 6]], np.int32)
EXCLUDE = np.array([[3, 0], [0, 0], [2, 3]], np.int32)


class Popular:
    """Scores item i with -i; ``change(items, scores)`` makes it break a promise."""

    def __init__(self, change=lambda items, scores: (items, scores)):
        self.change = change

    def recommend(self, history, exclude, _choices):
        items = np.zeros((len(history), 4), np.int32)
        scores = np.full((len(history), 4), MASKED_SCORE, np.float32)
        for row, banned in enumerate(np.concatenate([history, exclude], axis=1)):
            left = [i for i in range(1, 7) if i not in banned][:4]
            items[row, : len(left)], scores[row, : len(left)] = left, [-i for i in left]
        return self.change(items, scores)


def check(change):
    check_contract(Popular(change), SPEC, HISTORY, EXCLUDE, 1e-4)


def test_runner_that_keeps_its_promises_passes():
    check(lambda items, scores: (items, scores))


def replaced(row, place, item=None, score=None):
    def change(items, scores):
        if len(items) == len(HISTORY):
            items[row, place] = items[row, place] if item is None else item
            scores[row, place] = scores[row, place] if score is None else score
        return items, scores

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced(1, 3, item=7), r"found items 0\.\.7, expected 1\.\.6: a table row without an item"),
        (replaced(1, 3, item=-1), r"found items -1\.\.6"),
        (replaced(1, 3, item=1), "row 1: found an item twice"),
        (replaced(0, 0, item=2), "row 0: found an item that was seen or excluded"),
        (replaced(0, 1, item=3), "row 0: found an item that was seen or excluded"),
        (replaced(1, 2, score=0), "rise along a list"),
        (replaced(1, 2, score=np.nan), "no numbers"),
        (replaced(1, 3, item=0), "an empty rank with a score"),
        (lambda items, scores: (items.astype(np.int64), scores), r"items: found int64 \[3, 4\], expected int32 \[3, 4\]"),
        (lambda items, scores: (items, scores[:, :3]), r"scores: found float32 \[3, 3\]"),
        (
            lambda items, scores: (items, scores + np.float32(0.01 * len(items))),
            "in a batch of 3 and alone: found scores 0.02 apart",
        ),
        (
            lambda items, scores: (items, scores - np.arange(len(items), dtype=np.float32)[:, None]),
            "twice in a batch: found scores 3 apart",
        ),
    ],
)
def test_broken_promise_is_named(change, message):
    with pytest.raises(ParityError, match=message):
        check(change)


def test_agreement_by_hand():
    users = HeldOut(np.arange(2), HISTORY[:2], EXCLUDE[:2], np.array([[5], [2]], np.int32), 0, 0)
    reference = np.array([[4, 5, 6, 0], [1, 2, 3, 4]], np.int32), np.array([[9, 8, 7, MASKED_SCORE], [4, 3, 2, 1]], np.float32)
    candidate = np.array([[5, 4, 6, 0], [1, 3, 6, 5]], np.int32), np.array([[9, 8, 7, MASKED_SCORE], [4, 2.5, 2, 1]], np.float32)
    found = agreement(reference, candidate, users)
    gain = 1 / np.log2(3)
    assert found.ndcg == pytest.approx((1 + 0) / 2)
    assert found.ndcg_loss == pytest.approx((gain - 0.5) / gain)
    assert found.overlap_at_10 == pytest.approx((1 + 0.5) / 2)
    assert found.score_error == 1  # item 5 of the first user: 8 and 9


def test_users_nobody_gets_right_lose_nothing():
    users = HeldOut(np.arange(1), HISTORY[:1], EXCLUDE[:1], np.array([[1]], np.int32), 0, 0)
    answer = np.array([[4, 5, 6, 0]], np.int32), np.array([[9, 8, 7, MASKED_SCORE]], np.float32)
    assert agreement(answer, answer, users).ndcg_loss == 0
