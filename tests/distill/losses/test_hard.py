"""Hard cross-entropy against a second, naive implementation in plain Python."""

import math

import torch
from logits import logits

from distill.losses.hard import hard_cross_entropy
from distill.losses.partition import split_logits


def test_hard_cross_entropy_equals_the_naive_one_with_and_without_a_teacher():
    scores, targets = logits(5), torch.tensor([1, 4, 4, 12, 8])
    rows = zip(scores.tolist(), targets.tolist(), strict=True)
    expected = torch.tensor([math.log(sum(math.exp(v) for v in row)) - row[target - 1] for row, target in rows])
    for items in (None, *(logits(6).topk(n, dim=1).indices + 1 for n in (4, 12))):
        student = split_logits(scores, targets, items, 3.0)
        torch.testing.assert_close(hard_cross_entropy(student.target, student.top, student.rest), expected)
