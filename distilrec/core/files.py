"""Atomic writes: a reader sees the old content or the new content, never a part of it."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to a temporary file next to ``path``, then rename it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def replace_folder(new: Path, target: Path) -> None:
    """Replace the folder ``target`` by the finished folder ``new``; ``target`` stays complete until the rename."""
    retired = target.with_name(target.name + ".old")
    shutil.rmtree(retired, ignore_errors=True)
    if target.exists():
        target.replace(retired)
    new.replace(target)
    shutil.rmtree(retired, ignore_errors=True)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, which stays behind. The kernel releases the lock however this process ends.

    Raises:
        BlockingIOError: Another process holds the lock.
        OSError: The file cannot be written.
    """
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
