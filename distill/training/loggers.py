"""Logs of losses and validation metrics."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from distilrec.core.errors import MissingExtraError


@dataclass(frozen=True)
class Logging:
    """One training's log."""

    kind: Literal["csv", "tensorboard", "wandb"]
    folder: Path
    """Folder of all logs of a run."""
    name: str
    """Name of the stage."""


def make_logger(log: Logging) -> Logger:
    """The logger; each start of a training gets a version of its own. Weights & Biases works offline with WANDB_MODE=offline.

    Raises:
        MissingExtraError: the package for it is not installed.
    """
    if log.kind == "tensorboard":
        if not (find_spec("tensorboard") or find_spec("tensorboardX")):
            raise MissingExtraError("TensorBoard", "tensorboard")
        return TensorBoardLogger(log.folder, name=log.name)
    if log.kind == "wandb":
        if not find_spec("wandb"):
            raise MissingExtraError("Weights & Biases", "wandb")
        (log.folder / log.name).mkdir(parents=True, exist_ok=True)
        return WandbLogger(project="distilrec", name=log.name, save_dir=log.folder / log.name)
    return CSVLogger(log.folder, name=log.name)
