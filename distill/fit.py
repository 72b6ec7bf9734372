"""Fitting a model with Lightning: early stopping, checkpoints, resume."""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from distill.encoders import Encoder
from distill.module import VALIDATION_METRIC, NextItemModule, SequenceData
from distill.sequences import Windows, training_windows
from distill.soft_targets import SoftTargets
from distilrec.config import TrainingConfig
from distilrec.data.dataset import Dataset, held_out
from distilrec.errors import DataError
from distilrec.specs import RecommenderSpec


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
        scratch: folder for checkpoints; a ``last.ckpt`` found there is gone on from.

    Raises:
        DataError: there is no user to validate with.
    """
    validation = held_out(dataset, "validation", spec)
    if not len(validation.users):
        raise DataError("found no user with both training and validation interactions; lower k_core or change the split's fractions")
    windows = Windows(dataset.items, training_windows(dataset, spec.history_length))
    module = NextItemModule(encoder, spec, config, validation, targets, soft_ratio)
    data = SequenceData(windows, validation, config.batch_size, seed)
    best = ModelCheckpoint(
        dirpath=scratch, filename="best", monitor=VALIDATION_METRIC, mode="max", save_last=True, enable_version_counter=False
    )
    trainer = lightning.Trainer(
        max_epochs=config.epochs,
        precision="bf16-mixed" if torch.cuda.is_available() else "32-true",
        callbacks=[best, EarlyStopping(VALIDATION_METRIC, mode="max", patience=config.patience), TQDMProgressBar(refresh_rate=5)],
        logger=CSVLogger(scratch, name="log", version=""),
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        gradient_clip_val=1.0,
        enable_model_summary=False,
    )
    last = scratch / "last.ckpt"
    with warnings.catch_warnings():
        # Loading is from memory; workers would only cost.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*number of training batches.*")
        logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
        trainer.fit(module, data, ckpt_path=last if last.exists() else None, weights_only=False)
    state = torch.load(best.best_model_path, map_location="cpu", weights_only=False)["state_dict"]
    module.load_state_dict(state)
    cast(nn.Module, encoder).cpu().eval()
    assert best.best_model_score is not None
    return FitResult(trainer.current_epoch, float(best.best_model_score))
