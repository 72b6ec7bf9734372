"""The folder of a rehearsal's server, in a place where the next command finds it and its server when this one is killed."""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from distilrec.serving.process.pid_file import end_orphan
from distilrec.serving.process.security import state_folder

_PID_FILE = "server.json"
_DRAIN_S = 1.0
"""Seconds until a rehearsal's server is killed; it has no clients."""


@contextlib.contextmanager
def rehearsal_folder(repository: Path) -> Iterator[tuple[Path, Path | None]]:
    """An empty folder that is removed at the end. The caller holds the repository's lock, so there is one at a time.

    Args:
        repository: The model repository whose version is rehearsed.

    Yields:
        The folder, and the place of the file that names the server's process; None where only a temporary folder can be written,
        in which an interrupted rehearsal is not found again.
    """
    end_interrupted_rehearsal(repository)
    folder = _folder(repository)
    try:
        folder.mkdir(mode=0o700, parents=True)
    except OSError:
        with tempfile.TemporaryDirectory(prefix="distilrec-rehearsal-") as temporary:
            yield Path(temporary), None
        return
    try:
        yield folder, folder / _PID_FILE
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def end_interrupted_rehearsal(repository: Path) -> None:
    """End the server of a rehearsal that was killed, and remove its folder. The caller holds the repository's lock."""
    folder = _folder(repository)
    end_orphan(folder / _PID_FILE, _DRAIN_S)
    shutil.rmtree(folder, ignore_errors=True)


def _folder(repository: Path) -> Path:
    """Not in the repository, where Triton takes every folder for a model."""
    return state_folder() / f"rehearsal-{hashlib.sha256(str(repository.resolve()).encode()).hexdigest()[:16]}"
