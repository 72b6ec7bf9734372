"""Checkpoints of a training that survive a full disk and a killed process, and that run no code when they are read."""

import io
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from distilrec.core.files import replace_whole

logger = logging.getLogger(__name__)

BEST, LAST = "best.ckpt", "last.ckpt"
"""Files of the epoch with the best validation NDCG@10, and of the newest epoch."""

_ASIDE = ".unreadable"
_KEYS = {"state_dict", "callbacks", "epoch"}


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint next to its file and renames it, so that the file is always the whole of the former or the new one.

    Lightning's own writes to the system's folder for temporary files and moves the file from there, which leaves a part of it
    where the disk is full and that folder lies on another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None) -> None:  # noqa: ARG002
        """Write the checkpoint; the former one stays if that fails."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        replace_whole(Path(path), content.getbuffer())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU: weights and plain values only, since a pickle could run code.

    Raises:
        ValueError: It is cut short, damaged, or holds something else than weights and plain values.
        OSError: It cannot be read.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, LookupError, AttributeError, TypeError) as error:
        raise ValueError(str(error).partition("\n")[0] or type(error).__name__) from error
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= _KEYS:
        raise ValueError(f"found no {', '.join(sorted(_KEYS))}")
    return checkpoint


def resumable(scratch: Path) -> Path | None:
    """The checkpoint to resume from: that of the newest epoch, else that of the best one; None to begin at the first epoch.

    A checkpoint that cannot be read is put aside. Without that of the best epoch, no training can end with its weights, so it
    begins again.

    Args:
        scratch: Folder of the checkpoints. Leftovers of interrupted writes in it are removed.
    """
    for leftover in scratch.glob("*.tmp"):
        leftover.unlink()
    best, last = (_readable(scratch / name) for name in (BEST, LAST))
    if best:
        return scratch / (LAST if last else BEST)
    if last:
        logger.warning("%s: found no readable %s next to %s; the training begins again", scratch, BEST, LAST)
        # A best checkpoint of the new training must not be taken for that of this one.
        (scratch / LAST).unlink()
    return None


def _readable(path: Path) -> bool:
    """Whether the checkpoint exists and can be read; one that cannot be read is put aside."""
    if not path.exists():
        return False
    try:
        read_checkpoint(path)
    except (ValueError, OSError) as error:
        aside = path.with_name(path.name + _ASIDE)
        path.replace(aside)
        logger.warning("%s: found a checkpoint that cannot be read (%s); it is now %s", path, error, aside.name)
        return False
    return True
