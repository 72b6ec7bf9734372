"""Optimizers and learning rate schedules, by the settings."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from distilrec.config import TrainingConfig

_MOMENTUM = 0.9


def build_optimizer(
    parameters: Iterable[nn.Parameter],
    config: TrainingConfig,
    pretrained: Sequence[nn.Parameter] = (),
    pretrained_rate: float = 0.0,
) -> torch.optim.Optimizer:
    """The optimizer; biases and norms are not decayed.

    Args:
        parameters: All parameters; those that need no gradient are left out.
        config: Settings of the training.
        pretrained: Parameters with the learning rate ``pretrained_rate``.
        pretrained_rate: Learning rate of pretrained parameters.
    """
    known = {id(p) for p in pretrained}
    trained = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in some if (p.ndim >= 2) == is_matrix], "lr": rate, "weight_decay": config.weight_decay * is_matrix}
        for some, rate in (
            ([p for p in trained if id(p) not in known], config.learning_rate),
            ([p for p in trained if id(p) in known], pretrained_rate),
        )
        if some
        for is_matrix in (True, False)
    ]
    match config.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=config.learning_rate)
        case "adam":
            return torch.optim.Adam(groups, lr=config.learning_rate)
        case "sgd":
            return torch.optim.SGD(groups, lr=config.learning_rate, momentum=_MOMENTUM)


def learning_rate_factor(epoch: float, config: TrainingConfig) -> float:
    """Factor of the learning rate at ``epoch`` (0 is the start; fractions are steps within an epoch)."""
    if epoch < config.warmup_epochs:
        return epoch / config.warmup_epochs
    if config.schedule == "constant":
        return 1.0
    # Loshchilov and Hutter 2017, without restarts.
    share = (epoch - config.warmup_epochs) / max(config.epochs - config.warmup_epochs, 1)
    return 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
