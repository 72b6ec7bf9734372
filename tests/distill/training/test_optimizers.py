import math

import pytest
import torch
from torch import nn

from distill.training.optimizers import build_optimizer, learning_rate_factor
from distilrec.config import TrainingConfig


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_matrices_are_decayed_and_biases_and_norms_are_not(name, kind):
    net = model()
    optimizer = build_optimizer(net.parameters(), TrainingConfig(optimizer=name, learning_rate=0.03, weight_decay=0.2))
    assert type(optimizer) is kind
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {decay[id(p)] for p in (net[0].weight, net[2].weight)} == {0.2}
    assert {decay[id(p)] for p in (net[0].bias, net[1].weight, net[1].bias, net[2].bias)} == {0.0}
    assert len(decay) == 6
    assert {group["lr"] for group in optimizer.param_groups} == {0.03}
    if name == "sgd":
        assert {group["momentum"] for group in optimizer.param_groups} == {0.9}


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_a_step_without_gradient_moves_matrices_alone(name):
    net = model()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    optimizer = build_optimizer(net.parameters(), TrainingConfig(optimizer=name, learning_rate=0.1, weight_decay=0.5))
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {"0.weight", "2.weight"}
    if name == "adamw":  # decoupled: w - lr * decay * w
        torch.testing.assert_close(net[0].weight.detach(), before["0.weight"] * (1 - 0.1 * 0.5))


def test_pretrained_parameters_have_a_rate_of_their_own():
    net = model()
    settings = TrainingConfig(learning_rate=0.1, weight_decay=0.2)
    optimizer = build_optimizer(net.parameters(), settings, list(net[0].parameters()), 0.001)
    found = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert found[id(net[0].weight)] == (0.001, 0.2)
    assert found[id(net[0].bias)] == (0.001, 0.0)
    assert found[id(net[2].weight)] == (0.1, 0.2)
    assert found[id(net[2].bias)] == (0.1, 0.0)


def test_what_needs_no_gradient_is_left_out():
    net = model()
    net[0].requires_grad_(requires_grad=False)
    optimizer = build_optimizer(net.parameters(), TrainingConfig())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


def test_constant_rate_after_warmup():
    settings = TrainingConfig(warmup_epochs=2, epochs=10)
    assert [learning_rate_factor(epoch, settings) for epoch in (0, 0.5, 1, 2, 9.9)] == [0, 0.25, 0.5, 1, 1]
    assert learning_rate_factor(0, TrainingConfig()) == 1


def test_cosine_by_hand():
    settings = TrainingConfig(schedule="cosine", epochs=8)
    found = [learning_rate_factor(epoch, settings) for epoch in (0, 2, 4, 8, 9)]
    assert found == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, 0, 0])


def test_cosine_begins_where_warmup_ends():
    settings = TrainingConfig(schedule="cosine", epochs=10, warmup_epochs=2)
    found = [learning_rate_factor(epoch, settings) for epoch in (0, 1, 2, 6, 10)]
    assert found == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert learning_rate_factor(1, TrainingConfig(schedule="cosine", epochs=1, warmup_epochs=1)) == 1  # nothing left to fall over
