"""Fitting a model with Lightning: early stopping, checkpoints, resume."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from distill.callbacks import EpochProgressBar, EpochSeed, MovingAverage
from distill.encoders import Encoder
from distill.module import VALIDATION_METRIC, NextItemModule, SequenceData
from distill.sequences import Windows, training_windows
from distill.soft_targets import SoftTargets
from distilrec.config import TrainingConfig
from distilrec.data.dataset import Dataset, held_out
from distilrec.errors import DataError
from distilrec.specs import RecommenderSpec

_BEST = "best"


@dataclass(frozen=True)
class FitResult:
    """How a training went."""

    epochs: int
    """Epochs trained, the patience at the end included."""
    validation_ndcg: float
    """NDCG@10 of the best epoch, whose weights the model has now."""


def fit(
    encoder: Encoder,
    dataset: Dataset,
    spec: RecommenderSpec,
    config: TrainingConfig,
    *,
    seed: int,
    scratch: Path,
    targets: SoftTargets | None = None,
    soft_ratio: float = 0.0,
) -> FitResult:
    """Train ``encoder`` in place and leave it with the weights of its best epoch.

    Args:
        encoder: the model.
        dataset: sequences and splits.
        spec: sizes of the recommender for validation.
        config: epochs, patience, batch size and optimizer settings.
        seed: of batch order and dropout.
        scratch: folder for checkpoints; a ``last.ckpt`` found there is gone on from.
        targets: a teacher's soft targets.
        soft_ratio: share of the softened KL in the loss; 0 without ``targets``.

    Raises:
        DataError: there is no user to validate with.
    """
    validation = held_out(dataset, "validation", spec)
    if not len(validation.users):
        raise DataError(
            "found no user with both training and validation interactions; lower data.k_core or change the split's fractions"
        )
    windows = Windows(dataset.items, training_windows(dataset, spec.history_length))
    module = NextItemModule(encoder, spec, config, validation, targets=targets, soft_ratio=soft_ratio)
    data = SequenceData(windows, validation, config.batch_size, seed)
    checkpoint = scratch / "last.ckpt"
    with _quiet():
        trainer, best = _trainer(config, seed, scratch)
        trainer.fit(module, data, ckpt_path=checkpoint if checkpoint.exists() else None, weights_only=False)
    module.load_state_dict(torch.load(scratch / f"{_BEST}.ckpt", map_location="cpu", weights_only=False)["state_dict"])
    encoder.cpu().eval()
    assert best.best_model_score is not None
    return FitResult(trainer.current_epoch, float(best.best_model_score))


def _trainer(config: TrainingConfig, seed: int, scratch: Path) -> tuple[lightning.Trainer, ModelCheckpoint]:
    """The trainer, and the callback that knows the best epoch."""
    best = ModelCheckpoint(scratch, _BEST, monitor=VALIDATION_METRIC, mode="max", enable_version_counter=False)
    # save_last of the above would write only when the best one improves; a resume needs every epoch.
    last = ModelCheckpoint(scratch, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    early_stopping = EarlyStopping(VALIDATION_METRIC, mode="max", patience=config.patience)
    trainer = lightning.Trainer(
        max_epochs=config.epochs,
        precision="bf16-mixed" if torch.cuda.is_available() else "32-true",
        callbacks=[MovingAverage(config.ema_decay), best, early_stopping, last, EpochSeed(seed), EpochProgressBar()],
        logger=CSVLogger(scratch, name="log", version=""),
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        gradient_clip_val=1.0,
        enable_model_summary=False,
    )
    return trainer, best


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's hints that do not hold here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Loading is from memory; workers would only cost.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*number of training batches.*")
        # The folder is ours, and going on in it is the point.
        warnings.filterwarnings("ignore", ".*exists and is not empty.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
        yield
