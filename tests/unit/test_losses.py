"""Each loss against a second, naive implementation."""

import math

import pytest
import torch

from distill.losses import hard_cross_entropy, softened_kl


def logits(seed: int, rows: int = 5, items: int = 12) -> torch.Tensor:
    return torch.randn(rows, items, generator=torch.Generator().manual_seed(seed)) * 2


def soft_targets(teacher: torch.Tensor, n: int, temperature: float):
    best, items = teacher.topk(n, dim=1)
    rest = torch.stack([
        torch.logsumexp(torch.tensor([v for i, v in enumerate(row) if i not in top]) / temperature, 0)
        for row, top in zip(teacher.tolist(), items.tolist(), strict=True)
    ])  # fmt: skip
    return items, best, rest


def naive_softened_kl(student: torch.Tensor, teacher: torch.Tensor, n: int, temperature: float) -> float:
    total = 0.0
    for row in range(len(student)):
        p = [math.exp(v / temperature) for v in teacher[row].tolist()]
        q = [math.exp(v / temperature) for v in student[row].tolist()]
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        top = sorted(range(len(p)), key=lambda i: -p[i])[:n]
        outcomes = [(p[i], q[i]) for i in top]
        outcomes.append((1 - sum(p[i] for i in top), 1 - sum(q[i] for i in top)))
        total += sum(pi * math.log(pi / qi) for pi, qi in outcomes)
    return total / len(student) * temperature**2


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("n", [1, 5])
def test_softened_kl_equals_the_naive_one(n, temperature):
    student, teacher = logits(1), logits(2)
    found = softened_kl(student, *soft_targets(teacher, n, temperature), temperature)
    assert found.item() == pytest.approx(naive_softened_kl(student, teacher, n, temperature), rel=1e-4)


def test_softened_kl_is_zero_for_the_teacher_itself_and_positive_otherwise():
    teacher = logits(3)
    targets = soft_targets(teacher, 5, 2.0)
    assert softened_kl(teacher, *targets, 2.0).item() == pytest.approx(0, abs=1e-5)
    assert softened_kl(teacher + 7, *targets, 2.0).item() == pytest.approx(0, abs=1e-5)  # a shift changes no distribution
    assert softened_kl(logits(4), *targets, 2.0).item() > 0.1


def test_softened_kl_has_finite_gradients_when_the_top_holds_all_mass():
    student = torch.full((1, 6), -50.0)
    student[0, 0] = 50.0
    student.requires_grad_()
    softened_kl(student, torch.tensor([[0, 1]]), torch.tensor([[60.0, 1.0]]), torch.tensor([-1e4]), 1.0).backward()
    assert torch.isfinite(student.grad).all()


def test_hard_cross_entropy_equals_the_naive_one():
    scores, targets = logits(5), torch.tensor([0, 3, 3, 11, 7])
    rows = zip(scores.tolist(), targets.tolist(), strict=True)
    expected = sum(math.log(sum(math.exp(v) for v in row)) - row[target] for row, target in rows) / 5
    assert hard_cross_entropy(scores, targets).item() == pytest.approx(expected, rel=1e-5)
