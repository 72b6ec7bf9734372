"""Splitting logits against a second, naive implementation, and what all losses on logits promise."""

import pytest
import torch
from logits import TEMPERATURES, logits, soft_targets, targets_for

from distill.losses.hard import hard_cross_entropy
from distill.losses.mse import logit_mse
from distill.losses.partition import split_logits
from distill.losses.ranking import listwise_ranking
from distill.losses.soft import softened_kl


def naive_split(scores: torch.Tensor, targets: torch.Tensor, items: torch.Tensor, temperature: float) -> list[torch.Tensor]:
    targets, items = targets - 1, items - 1
    others = torch.ones_like(scores, dtype=torch.bool).scatter(1, items, False)
    left = [row[keep] for row, keep in zip(scores, others, strict=True)]
    rests = [torch.stack([(row / t).exp().sum().log() for row in left]) for t in (1.0, temperature)]
    return [scores[torch.arange(len(scores)), targets], torch.stack([row[i] for row, i in zip(scores, items, strict=True)]), *rests]


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_split_has_the_values_and_gradients_of_the_naive_one(temperature):
    scores = logits(1).double().requires_grad_()
    items = logits(2).topk(4, dim=1).indices + 1
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
