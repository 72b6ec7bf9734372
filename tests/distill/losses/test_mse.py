"""Squared difference of logits against a second, naive implementation in plain Python."""

import torch
from logits import logits, top_of

from distill.losses.mse import logit_mse


def test_logit_mse_equals_the_naive_one():
    student, best = top_of(logits(1), logits(2), 4)
    expected = []
    for mine, other in zip(student.top.tolist(), best.tolist(), strict=True):
        centred = [[v - sum(row) / 4 for v in row] for row in (mine, other)]
        expected.append(sum((a - b) ** 2 for a, b in zip(*centred, strict=True)) / 4)
    torch.testing.assert_close(logit_mse(student.top, best), torch.tensor(expected))


def test_logit_mse_is_zero_for_the_shifted_teacher():
    student, best = top_of(logits(2) + 100, logits(2), 4)
    torch.testing.assert_close(logit_mse(student.top, best), torch.zeros(5), atol=1e-6, rtol=0)
