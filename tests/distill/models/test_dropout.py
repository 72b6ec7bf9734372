"""Dropout with a fast mask."""

import pytest
import torch
from torch import nn

from distill.models.dropout import Dropout, with_fast_dropout


def test_as_many_are_dropped_as_asked_and_the_mean_stays():
    torch.manual_seed(0)
    dropped = Dropout(0.3).train()(torch.ones(500, 999))
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.003)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.005)
    # No column is favoured, whatever byte of a word its mask comes from.
    assert (dropped == 0).float().mean(dim=0).std().item() == pytest.approx((0.3 * 0.7 / 500) ** 0.5, rel=0.1)


def test_the_same_seed_drops_the_same():
    values = torch.ones(7, 5)
    masks = []
    for _ in range(2):
        torch.manual_seed(3)
        masks.append(Dropout(0.5).train()(values))
    assert torch.equal(*masks)


@pytest.mark.parametrize(("p", "training"), [(0.5, False), (0.0, True)])
def test_nothing_is_dropped_when_it_should_not_be(p, training):
    values = torch.randn(20, 3)
    assert torch.equal(Dropout(p).train(training)(values), values)


def test_gradients_pass_where_values_did():
    values = torch.ones(50, 50, requires_grad=True)
    dropped = Dropout(0.4).train()(values)
    dropped.sum().backward()
    assert torch.equal(values.grad, dropped.detach())


def test_every_dropout_of_another_module_is_replaced():
    module = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.2), nn.GELU()))
    with_fast_dropout(module)
    assert [type(found) for found in module.modules() if isinstance(found, nn.Dropout)] == [Dropout]
    assert module[1][0].p == 0.2
