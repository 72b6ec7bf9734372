"""Softened KL against a second, naive implementation in plain Python."""

import math

import pytest
import torch
from logits import TEMPERATURES, logits, soft_targets, targets_for

from distill.losses.partition import split_logits
from distill.losses.soft import softened_kl


def naive_softened_kl(student: torch.Tensor, teacher: torch.Tensor, n: int, temperature: float) -> list[float]:
    values = []
    for row in range(len(student)):
        p = [math.exp(v / temperature) for v in teacher[row].tolist()]
        q = [math.exp(v / temperature) for v in student[row].tolist()]
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        top = sorted(range(len(p)), key=lambda i: -p[i])[:n]
        outcomes = [(p[i], q[i]) for i in top]
        if n < len(p):
            outcomes.append((1 - sum(p[i] for i in top), 1 - sum(q[i] for i in top)))
        values.append(sum(pi * math.log(pi / qi) for pi, qi in outcomes) * temperature**2)
    return values


def kl(scores: torch.Tensor, teacher: torch.Tensor, n: int, temperature: float) -> torch.Tensor:
    items, best, rest = soft_targets(teacher, n, temperature)
    student = split_logits(scores, targets_for(scores), items, temperature)
    return softened_kl(student.top, student.soft_rest, best, rest, temperature)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("n", [1, 5, 12])
def test_softened_kl_equals_the_naive_one(n, temperature):
    student, teacher = logits(1), logits(2)
    expected = torch.tensor(naive_softened_kl(student, teacher, n, temperature))
    torch.testing.assert_close(kl(student, teacher, n, temperature), expected, rtol=1e-4, atol=1e-5)


def test_softened_kl_is_zero_for_the_teacher_itself_and_positive_otherwise():
    teacher = logits(3)
    for shift in (0, 7):  # a shift changes no distribution
        torch.testing.assert_close(kl(teacher + shift, teacher, 5, 2.0), torch.zeros(5), atol=1e-5, rtol=0)
    assert (kl(logits(4), teacher, 5, 2.0) > 0.1).all()


def test_softened_kl_pulls_mass_into_the_rest_however_little_the_student_leaves_there():
    scores = torch.tensor([[50.0, 0.0, 0.0, 0.0]], requires_grad=True)  # 1 - p(first) rounds to 0
    student = split_logits(scores, torch.tensor([1]), torch.tensor([[1]]))
    softened_kl(student.top, student.soft_rest, torch.tensor([[0.0]]), torch.tensor([0.0]), 1.0).sum().backward()
    torch.testing.assert_close(scores.grad, torch.tensor([[0.5, -1 / 6, -1 / 6, -1 / 6]]))


@pytest.mark.parametrize("n", [1, 12])
def test_softened_kl_has_finite_gradients_when_the_top_holds_all_mass(n):
    scores = torch.full((1, 12), -50.0)
    scores[0, 0] = 50.0
    scores.requires_grad_()
    student = split_logits(scores, torch.tensor([2]), 1 + torch.arange(n)[None])
    teacher = torch.full((1, n), 1.0)
    teacher[0, 0] = 60.0
    softened_kl(student.top, student.soft_rest, teacher, torch.tensor([-1e4]), 1.0).backward()
    assert torch.isfinite(scores.grad).all()
