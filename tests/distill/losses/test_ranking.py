"""Listwise ranking against a second, naive implementation in plain Python."""

import math

import pytest
import torch
from logits import logits, top_of

from distill.losses.ranking import listwise_ranking


@pytest.mark.parametrize(("depth", "n"), [(1, 1), (1, 4), (3, 4), (4, 4), (7, 12), (12, 12)])
def test_listwise_ranking_equals_the_naive_one(depth, n):
    scores, teacher = logits(1), logits(2)
    expected = []
    for row, scored in zip(scores.tolist(), teacher.tolist(), strict=True):
        order = sorted(range(12), key=lambda i: -scored[i])
        uninteresting = sum(math.exp(row[i]) for i in order[depth:])
        likelihood = 1.0
        for k in range(depth):
            likelihood *= math.exp(row[order[k]]) / (sum(math.exp(row[i]) for i in order[k:depth]) + uninteresting)
        expected.append(-math.log(likelihood) / depth)
    student, _ = top_of(scores, teacher, n)
    torch.testing.assert_close(listwise_ranking(student.top, student.rest, depth), torch.tensor(expected))
    shifted, _ = top_of(scores + 7, teacher, n)
    torch.testing.assert_close(listwise_ranking(shifted.top, shifted.rest, depth), torch.tensor(expected), atol=1e-4, rtol=1e-4)


def test_listwise_ranking_prefers_the_teachers_order_and_ignores_the_order_below():
    teacher = torch.arange(12.0).flip(0)[None] * 5
    right, _ = top_of(teacher, teacher, 6)
    below = teacher.clone()
    below[0, 4:] = teacher[0, 4:].flip(0)
    swapped = teacher.clone()
    swapped[0, [0, 1]] = teacher[0, [1, 0]]
    values = [listwise_ranking(top_of(s, teacher, 6)[0].top, top_of(s, teacher, 6)[0].rest, 4).item() for s in (below, swapped)]
    best = listwise_ranking(right.top, right.rest, 4).item()
    assert values[0] == pytest.approx(best, abs=1e-6)
    assert values[1] > best + 1
