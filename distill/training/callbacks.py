"""Callbacks of a training: averaged weights, seeds, times, early stopping, one progress bar."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar, WeightAveraging
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from torch import Tensor

from distill.training.module import VALIDATION_METRIC, NextItemModule, epoch_seed
from distilrec.core.progress import say

GiveUp = Callable[[Sequence[float]], bool]
"""Validation NDCG@10 of the epochs so far -> whether to stop."""


class MovingAverage(WeightAveraging):
    """Validates and keeps an exponential moving average of the weights (Polyak and Juditsky 1992).

    Args:
        decay: Weight of the average against the newest weights in each step. It is smaller over the first steps, so that
            the average of a short training does not stay near the random start.
    """

    def __init__(self, decay: float) -> None:
        # Buffers are constants here, some of them integers, which averaging would round.
        super().__init__(use_buffers=False, avg_fn=partial(_average, decay))


def _average(decay: float, averaged: Tensor, current: Tensor, steps: Tensor | int) -> Tensor:
    return averaged.lerp(current, 1 - min(decay, (1 + int(steps)) / (10 + int(steps))))


class EpochSeed(Callback):
    """Seeds dropout in each epoch, so that a resumed training ends with the same weights as an uninterrupted one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Depends on seed and epoch alone."""
        torch.manual_seed(epoch_seed(self.seed, trainer.current_epoch))


class EpochStart(Callback):
    """Calls ``Encoder.start_epoch``."""

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Before the first step."""
        assert isinstance(pl_module, NextItemModule)
        pl_module.encoder.start_epoch(trainer.current_epoch)


class EpochClock(Callback):
    """Measures the mean time of the passes over the training data, without validation."""

    def __init__(self) -> None:
        self.mean_s = 0.0
        self._epochs = 0
        self._started = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Starts."""
        self._started = time.monotonic()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Stops at the last batch: the hook for an epoch's end comes after validation."""
        if trainer.is_last_batch:
            self._epochs += 1
            self.mean_s += (time.monotonic() - self._started - self.mean_s) / self._epochs


class ExpectedTime(Callback):
    """Says how long the training will take at most, once its first steps show it."""

    _FIRST_S = 10.0

    def __init__(self) -> None:
        self._started = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Starts the clock."""
        self._started, self._first_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Speaks after the first ten seconds, and never about a training that is shorter."""
        elapsed = time.monotonic() - self._started
        if not self._started or elapsed < self._FIRST_S:
            return
        self._started = 0.0
        step_s = elapsed / max(trainer.global_step - self._first_step, 1)
        epoch_s = step_s * trainer.num_training_batches
        epochs = (trainer.max_epochs or 1) - trainer.current_epoch
        if trainer.is_global_zero:
            say(expected_time(epoch_s, epochs))  # not to the log, which processes that share a training do not show


def expected_time(epoch_s: float, epochs: int) -> str:
    """Sentence about the time that a training will take, without validation.

    Args:
        epoch_s: Seconds of an epoch.
        epochs: Most epochs that are left.
    """
    total_s = epoch_s * epochs
    total = f"{total_s / 3600:.1f} hours" if total_s >= 5400 else f"{max(round(total_s / 60), 1)} min"
    return f"an epoch takes about {epoch_s:.0f} s; {epochs} epochs would take {total}, fewer where validation stops improving"


class Curve(Callback):
    """Keeps the validation NDCG@10 of every epoch, also when resumed, and stops a training that is given up.

    Args:
        give_up: Called with the values so far after each epoch; None never stops.
    """

    def __init__(self, give_up: GiveUp | None) -> None:
        self.give_up = give_up
        self.values: list[float] = []

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """One more value."""
        self.values.append(float(trainer.callback_metrics[VALIDATION_METRIC]))
        if self.give_up is not None and self.give_up(self.values):
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"values": list(self.values)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.values = list(state_dict["values"])


class EpochLines(Callback):
    """Writes a line for each epoch, where no terminal shows a bar: its mean loss, validation NDCG@10 and time.

    Args:
        name: Name of the training.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._losses: list[Tensor] = []
        self._started = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Starts."""
        self._losses.clear()
        self._started = time.monotonic()

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, *_: Any) -> None:  # noqa: ARG002
        """One more loss, which stays on its device."""
        self._losses.append(outputs["loss"].detach())

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Speaks, after validation."""
        if not trainer.is_global_zero:
            return
        loss, ndcg = float(torch.stack(self._losses).mean()), float(trainer.callback_metrics[VALIDATION_METRIC])
        epoch = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
        say(f"{self.name}: {epoch}: loss {loss:.4f}, validation NDCG@10 {ndcg:.4f}, {time.monotonic() - self._started:.1f} s")


class EpochProgressBar(TQDMProgressBar):
    """One progress bar for training, none for the short validations."""

    def get_metrics(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> dict[str, Any]:
        """Losses and NDCG, without the number of the log."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num"}

    def init_validation_tqdm(self) -> Tqdm:
        """A bar that is never drawn."""
        return Tqdm(disable=True)
