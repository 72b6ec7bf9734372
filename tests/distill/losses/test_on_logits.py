"""Each loss on logits against a second, naive implementation in plain Python."""

import math

import pytest
import torch

from distill.losses.on_logits import hard_cross_entropy, listwise_ranking, logit_mse, softened_kl
from distill.losses.partition import StudentLogits, split_logits

TEMPERATURES = [0.25, 0.5, 0.7, 1.0, 1.5, 2.0, 2.7, 3.0, 4.0]  # one exponential or two, sharper or flatter


def logits(seed: int, rows: int = 5, items: int = 12) -> torch.Tensor:
    return torch.randn(rows, items, generator=torch.Generator().manual_seed(seed)) * 2


def targets_for(scores: torch.Tensor) -> torch.Tensor:
    return torch.arange(len(scores)) * 3 % scores.shape[1]


def soft_targets(teacher: torch.Tensor, n: int, temperature: float = 1.0):
    best, items = teacher.topk(n, dim=1)
    rest = [
        math.log(sum(math.exp(v / temperature) for i, v in enumerate(row) if i not in top) or math.exp(-700))
        for row, top in zip(teacher.tolist(), items.tolist(), strict=True)
    ]
    return items, best, torch.tensor(rest)


def naive_split(scores: torch.Tensor, targets: torch.Tensor, items: torch.Tensor, temperature: float) -> list[torch.Tensor]:
    others = torch.ones_like(scores, dtype=torch.bool).scatter(1, items, False)
    left = [row[keep] for row, keep in zip(scores, others, strict=True)]
    rests = [torch.stack([(row / t).exp().sum().log() for row in left]) for t in (1.0, temperature)]
    return [scores[torch.arange(len(scores)), targets], torch.stack([row[i] for row, i in zip(scores, items, strict=True)]), *rests]


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_split_has_the_values_and_gradients_of_the_naive_one(temperature):
    scores = logits(1).double().requires_grad_()
    items = logits(2).topk(4, dim=1).indices
    targets = targets_for(scores)
    targets[1] = items[1, 2]  # one true item among the teacher's
    weights = [torch.randn(shape, dtype=torch.float64) for shape in (5, (5, 4), 5, 5)]
    found, expected = split_logits(scores, targets, items, temperature), naive_split(scores, targets, items, temperature)
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other)
    gradients = [
        torch.autograd.grad(sum((part * weight).sum() for part, weight in zip(parts, weights, strict=True)), scores)[0]
        for parts in (found, expected)
    ]
    torch.testing.assert_close(*gradients)


def test_split_leaves_the_logits_alone_and_refuses_a_second_gradient():
    scores = logits(1).requires_grad_()
    before = scores.detach().clone()
    rest = split_logits(scores, targets_for(scores)).rest.sum()
    rest.backward(retain_graph=True)
    assert torch.equal(scores.detach(), before)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        rest.backward()


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("n", [3, 12])
@pytest.mark.parametrize("scale", [1e-6, 1e3, 1e6])
def test_losses_and_gradients_are_finite_for_extreme_logits(scale, n, temperature):
    scores = (logits(1) * scale).requires_grad_()
    items, best, rest = soft_targets(logits(2), n, temperature)
    student = split_logits(scores, targets_for(scores), items, temperature)
    losses = [
        hard_cross_entropy(student.target, student.top, student.rest),
        softened_kl(student.top, student.soft_rest, best, rest, temperature),
        listwise_ranking(student.top, student.rest, 3),
        logit_mse(student.top, best),
    ]
    assert all(torch.isfinite(loss).all() for loss in losses)
    (gradient,) = torch.autograd.grad(sum(losses).sum(), scores)
    assert torch.isfinite(gradient).all()


def test_hard_cross_entropy_equals_the_naive_one_with_and_without_a_teacher():
    scores, targets = logits(5), torch.tensor([0, 3, 3, 11, 7])
    rows = zip(scores.tolist(), targets.tolist(), strict=True)
    expected = torch.tensor([math.log(sum(math.exp(v) for v in row)) - row[target] for row, target in rows])
    for items in (None, logits(6).topk(4, dim=1).indices, logits(6).topk(12, dim=1).indices):
        student = split_logits(scores, targets, items, 3.0)
        torch.testing.assert_close(hard_cross_entropy(student.target, student.top, student.rest), expected)


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
    student = split_logits(scores, torch.tensor([0]), torch.tensor([[0]]))
    softened_kl(student.top, student.soft_rest, torch.tensor([[0.0]]), torch.tensor([0.0]), 1.0).sum().backward()
    torch.testing.assert_close(scores.grad, torch.tensor([[0.5, -1 / 6, -1 / 6, -1 / 6]]))


@pytest.mark.parametrize("n", [1, 12])
def test_softened_kl_has_finite_gradients_when_the_top_holds_all_mass(n):
    scores = torch.full((1, 12), -50.0)
    scores[0, 0] = 50.0
    scores.requires_grad_()
    student = split_logits(scores, torch.tensor([1]), torch.arange(n)[None])
    teacher = torch.full((1, n), 1.0)
    teacher[0, 0] = 60.0
    softened_kl(student.top, student.soft_rest, teacher, torch.tensor([-1e4]), 1.0).backward()
    assert torch.isfinite(scores.grad).all()


def top_of(scores: torch.Tensor, teacher: torch.Tensor, n: int) -> tuple[StudentLogits, torch.Tensor]:
    items, best, _ = soft_targets(teacher, n)
    return split_logits(scores, targets_for(scores), items), best


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


@pytest.mark.parametrize(("depth", "n"), [(1, 1), (1, 4), (3, 4), (4, 4), (7, 12), (12, 12)])
def test_listwise_ranking_equals_the_naive_one(depth, n):
    scores, teacher = logits(1), logits(2)
    expected = []
    for row, opinion in zip(scores.tolist(), teacher.tolist(), strict=True):
        order = sorted(range(12), key=lambda i: -opinion[i])
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
