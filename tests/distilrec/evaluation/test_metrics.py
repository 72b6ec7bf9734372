import math

import numpy as np
import pytest

from distilrec.evaluation.metrics import METRICS, coverage, hit_rate, mrr, ndcg, overlap, popularity

RANKED = np.array([[5, 3, 9, 1], [5, 3, 9, 1], [2, 4, 6, 8], [7, 0, 0, 0]])


def test_one_right_answer_by_hand():
    truth = np.array([[5], [9], [1], [7]])  # at rank 1, rank 3, not at all, rank 1 of a short list
    assert hit_rate(RANKED, truth, 4).tolist() == [1, 1, 0, 1]
    assert ndcg(RANKED, truth, 4).tolist() == pytest.approx([1, 1 / math.log2(4), 0, 1])
    assert mrr(RANKED, truth, 4).tolist() == pytest.approx([1, 1 / 3, 0, 1])


def test_cut_at_k():
    truth = np.array([[9], [9], [9], [9]])  # rank 3 of the first two
    for metric in METRICS.values():
        assert metric(RANKED, truth, 2).tolist() == [0, 0, 0, 0]
        assert metric(RANKED, truth, 3)[0] > 0


def test_several_right_answers_by_hand():
    ranked = np.array([[1, 2, 3, 4]])
    truth = np.array([[2, 4, 8]])  # ranks 2 and 4, and one that is missing
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert ndcg(ranked, truth, 4)[0] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal)
    assert mrr(ranked, truth, 4)[0] == pytest.approx(1 / 2)
    assert hit_rate(ranked, truth, 4)[0] == 1


def test_more_right_answers_than_k_still_reach_one():
    assert ndcg(np.array([[1, 2]]), np.array([[1, 2, 3]]), 2)[0] == pytest.approx(1)


def test_lists_shorter_than_k_count_as_misses():
    assert ndcg(np.array([[1, 2]]), np.array([[3]]), 10)[0] == 0
    assert ndcg(np.array([[1, 2]]), np.array([[2]]), 10)[0] == pytest.approx(1 / math.log2(3))


def test_padding_is_never_a_hit():
    ranked, truth = np.array([[0, 0]]), np.array([[3, 0]])
    for metric in METRICS.values():
        assert metric(ranked, truth, 2)[0] == 0
        assert metric(ranked, np.array([[0, 0]]), 2)[0] == 0


def test_overlap_counts_shared_items_in_any_order():
    ranked = np.array([[1, 2, 3, 4], [1, 2, 0, 0], [0, 0, 0, 0]])
    other = np.array([[2, 1, 9, 3], [2, 7, 8, 9], [5, 6, 7, 8]])
    assert overlap(ranked, other, 2).tolist() == [1, 0.5, 1]
    assert overlap(ranked, other, 3).tolist() == pytest.approx([2 / 3, 0.5, 1])
    assert overlap(ranked, other, 100).tolist() == [0.75, 0.5, 1]


def test_popularity_by_hand():
    counts = np.array([0, 10, 4, 1, 7])
    ranked = np.array([[1, 2, 3], [4, 0, 0], [0, 0, 0]])
    assert popularity(ranked, counts, 2).tolist() == [7, 7, 0]
    assert popularity(ranked, counts, 3).tolist() == [5, 7, 0]


def test_coverage_by_hand():
    ranked = np.array([[1, 2, 3], [2, 1, 4], [1, 0, 0]])
    assert coverage(ranked, 8, 1) == 2 / 8
    assert coverage(ranked, 8, 3) == 4 / 8
    assert coverage(np.zeros((2, 3), int), 8, 3) == 0
