import numpy as np
import pytest

from distilrec.core.errors import ParityError
from distilrec.core.specs import MASKED_SCORE, RecommenderSpec
from distilrec.evaluation.parity import check_parity, compare, edge_requests

ITEMS = np.array([[4, 2, 9]], np.int32)
SCORES = np.array([[3.0, 2.0, 1.0]], np.float32)


def test_equal_answers():
    parity = compare((ITEMS, SCORES), (ITEMS, SCORES + 1e-6))
    assert (parity.misplaced, parity.tied) == (0, 0)
    assert 0 < parity.max_score_error < 1e-5


def test_tied_items_may_change_places():
    scores = np.array([[3.0, 3.0, 1.0]], np.float32)
    parity = compare((ITEMS, scores), (np.array([[2, 4, 9]], np.int32), scores))
    assert (parity.misplaced, parity.tied) == (0, 2)


def test_items_that_are_not_tied_are_misplaced():
    assert compare((ITEMS, SCORES), (np.array([[2, 4, 9]], np.int32), SCORES)).misplaced == 2


def test_an_item_from_outside_the_list_must_tie_with_the_last():
    outside = np.array([[4, 2, 7]], np.int32)
    assert compare((ITEMS, SCORES), (outside, SCORES)).tied == 1
    above = np.array([[4, 7, 2]], np.int32)
    assert compare((ITEMS, SCORES), (above, SCORES)).misplaced == 2


def test_an_item_where_there_should_be_none_is_misplaced():
    items, scores = np.array([[4, 0]], np.int32), np.array([[3.0, MASKED_SCORE]], np.float32)
    assert compare((items, scores), (np.array([[4, 8]], np.int32), scores)).misplaced == 1
    assert compare((items, scores), (items, scores)).misplaced == 0


class Fixed:
    def __init__(self, error: float = 0.0, alone: float = 0.0) -> None:
        self.error, self.alone = error, alone

    def recommend(self, history, _exclude, _choices):
        rows = len(history)
        error = self.alone if rows == 1 else self.error
        return np.repeat(ITEMS, rows, 0), np.repeat(SCORES, rows, 0) + np.float32(error)


@pytest.mark.parametrize(
    ("candidate", "message"),
    [(Fixed(error=0.1), "in a batch"), (Fixed(alone=0.1), "alone"), (Fixed(error=np.nan), "in a batch")],
)
def test_check_parity_refuses(candidate, message):
    rows = np.zeros((20, 3), np.int32)
    assert check_parity(Fixed(), Fixed(), rows, rows).rows == 20
    with pytest.raises(ParityError, match=message):
        check_parity(Fixed(), candidate, rows, rows)


def test_edge_requests_hold_what_they_promise():
    history, exclude = edge_requests(RecommenderSpec(10, 4, 3, 5))
    assert not history[0].any()
    assert ((history[2] < 1) | (history[2] > 10)).any()
    assert set(history[4]) | set(exclude[4]) == set(range(1, 8))
