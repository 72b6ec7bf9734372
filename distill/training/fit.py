"""Fitting a model with Lightning: early stopping, checkpoints, resume, loggers, several processes."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from distill.data.sequences import Windows, hard_windows, soft_windows
from distill.losses.distillation import Distillation
from distill.models.encoders import Encoder
from distill.training.allocation import keep_freed_memory
from distill.training.callbacks import (
    Curve,
    EpochClock,
    EpochLines,
    EpochProgressBar,
    EpochSeed,
    EpochStart,
    ExpectedTime,
    GiveUp,
    MovingAverage,
)
from distill.training.checkpoints import BEST, LAST, WholeCheckpoints, read_checkpoint, resumable
from distill.training.loggers import Logging, make_logger
from distill.training.module import VALIDATION_METRIC, NextItemModule, SequenceData
from distill.training.precision import cpu_computes_bfloat16
from distilrec.config import TrainingConfig
from distilrec.core.errors import DataError
from distilrec.core.progress import is_interactive
from distilrec.core.specs import PADDING, RecommenderSpec
from distilrec.data.dataset import Dataset, HeldOut, held_out

_STEPS_AN_EPOCH = 128
_PREDICTIONS_A_STEP = 3000
_SMALLEST_BATCH = 8


@dataclass(frozen=True)
class FitResult:
    """How a training went."""

    epochs: int
    """Epochs trained, including those without improvement at the end."""
    validation_ndcg: float
    """NDCG@10 of the best epoch, whose weights the model has now."""
    seconds_an_epoch: float
    """Mean time of the passes over the training data of this start, without validation."""
    curve: tuple[float, ...]
    """NDCG@10 after each epoch."""


def fit(
    encoder: Encoder,
    dataset: Dataset,
    spec: RecommenderSpec,
    config: TrainingConfig,
    *,
    seed: int,
    scratch: Path,
    distillation: Distillation | None = None,
    processes: int = 1,
    log: Logging | None = None,
    give_up: GiveUp | None = None,
    windows: Sequence[Windows] | None = None,
) -> FitResult:
    """Train ``encoder`` in place and leave it with the weights of its best epoch.

    Args:
        encoder: Model to train.
        dataset: Sequences and splits.
        spec: Sizes of the recommender for validation.
        config: Epochs, patience, batch size and optimizer settings.
        seed: Random seed of batch order and dropout.
        scratch: Folder for checkpoints; the training resumes from the newest one that can be read.
        distillation: Soft targets and how to learn from them; None learns from true items alone.
        processes: Number of processes that share the work (PyTorch's DDP), on as many GPUs where there are any.
        log: Log of the losses.
        give_up: Stops the training early where it returns True.
        windows: What to learn from, one for each epoch in turn; None for all training sequences of the data set.

    Raises:
        DataError: There is no user to validate with.
    """
    module = NextItemModule(encoder, spec, config, _validation_users(dataset, spec), distillation)
    windows = windows or _windows(dataset, spec.history_length, distillation)
    data, clock = SequenceData(windows, module.validation, batch_size(config, windows[0]), seed), EpochClock()
    moments = [EpochSeed(seed), EpochStart(), Curve(give_up), ExpectedTime(), clock]
    with _quiet():
        trainer = _trainer(config, scratch, moments, _strategy(encoder, processes), processes=processes, log=log)
        trainer.fit(module, data, ckpt_path=resumable(scratch), weights_only=True)
    return _load_best_epoch(module, scratch, clock)


def _windows(dataset: Dataset, history_length: int, distillation: Distillation | None) -> list[Windows]:
    """What to learn from, one for each epoch in turn."""
    windows = [hard_windows(dataset, history_length)] if distillation is None else soft_windows(distillation.targets, dataset)
    return [some for some in windows if len(some)]


def batch_size(config: TrainingConfig, windows: Windows) -> int:
    """Windows in a step, over all processes together.

    ``auto`` lies near the presets of MovieLens-100K (16 windows of 41 predictions) and Amazon Beauty (256 windows of 8).
    """
    if config.batch_size != "auto":
        return config.batch_size
    lengths = windows.lengths
    wanted = min(len(lengths) / _STEPS_AN_EPOCH, _PREDICTIONS_A_STEP / float(lengths.mean()))
    return max(_SMALLEST_BATCH, round(wanted))


def _load_best_epoch(module: NextItemModule, scratch: Path, clock: EpochClock) -> FitResult:
    """Load the weights of the best epoch from the checkpoints of a finished training, ready for inference on the CPU."""
    best, last = (read_checkpoint(scratch / name) for name in (BEST, LAST))
    module.load_state_dict(best["state_dict"])
    module.encoder.cpu().eval()
    return FitResult(last["epoch"] + 1, _best_score(best), clock.mean_s, tuple(last["callbacks"][Curve.__qualname__]["values"]))


def _validation_users(dataset: Dataset, spec: RecommenderSpec) -> HeldOut:
    """Users with something held out for validation, those with the shortest histories first.

    Raises:
        DataError: There is none.
    """
    users = held_out(dataset, "validation", spec)
    if not len(users.users):
        raise DataError(
            "found no user with both training and validation interactions; lower data.k_core or change the split's fractions"
        )
    return _by_length(users)


def _by_length(users: HeldOut) -> HeldOut:
    """The same users, those with the shortest histories first."""
    order = np.argsort((users.history != PADDING).sum(axis=1), kind="stable")
    return users.rows(order)


def _best_score(checkpoint: dict[str, Any]) -> float:
    """Score in the file: with several processes, the callbacks of this process saw no validation."""
    states = [state for name, state in checkpoint["callbacks"].items() if name.startswith("ModelCheckpoint")]
    return next(float(state["best_model_score"]) for state in states if state.get("best_model_score") is not None)


def _strategy(encoder: Encoder, processes: int) -> str:
    if processes == 1:
        return "auto"
    # DDP waits for the gradient of every parameter unless unused parameters are allowed.
    return "ddp_spawn_find_unused_parameters_true" if encoder.freezes_midway else "ddp_spawn"


def _precision(config: TrainingConfig) -> Literal["bf16-mixed", "32-true"]:
    fast = torch.cuda.is_available() or cpu_computes_bfloat16()
    return "bf16-mixed" if fast and config.precision == "auto" else "32-true"


def _trainer(
    config: TrainingConfig, scratch: Path, moments: list[Callback], strategy: str, *, processes: int, log: Logging | None
) -> lightning.Trainer:
    best = ModelCheckpoint(scratch, Path(BEST).stem, monitor=VALIDATION_METRIC, mode="max", enable_version_counter=False)
    # save_last of the above would write only when the best one improves; a resume needs every epoch.
    last = ModelCheckpoint(scratch, Path(LAST).stem, save_on_train_epoch_end=True, enable_version_counter=False)
    early_stopping = EarlyStopping(VALIDATION_METRIC, mode="max", patience=config.patience)
    shown = EpochProgressBar() if is_interactive() else EpochLines(log.name if log else "training")
    keep_freed_memory()
    callbacks = [MovingAverage(config.ema_decay), best, early_stopping, last, *moments, shown]
    return lightning.Trainer(
        max_epochs=config.epochs,
        precision=_precision(config),
        devices=processes,
        strategy=strategy,
        use_distributed_sampler=False,  # the batch sampler shares batches out itself
        callbacks=callbacks,
        plugins=[WholeCheckpoints()],
        logger=make_logger(log) if log else False,
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        gradient_clip_val=1.0,
        enable_model_summary=False,
        enable_progress_bar=is_interactive(),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Context without Lightning's hints that do not apply here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Data is in memory; workers would only cost time.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*number of training batches.*")
        # A checkpoint of an interrupted training is expected in this folder.
        warnings.filterwarnings("ignore", ".*exists and is not empty.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
        yield
