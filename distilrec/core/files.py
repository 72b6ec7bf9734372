"""Atomic writes: a reader sees the old content or the new content, never a part of it."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text as ``replace_whole`` does."""
    replace_whole(path, text.encode())


def replace_whole(path: Path, content: bytes | memoryview) -> None:
    """Write to a temporary file next to ``path``, then rename it, once the content is on the disk.

    Raises:
        OSError: The content cannot be written, for example because the disk is full. The former file stays, and no temporary one.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replace_folder(new: Path, target: Path) -> None:
    """Replace the folder ``target`` by the finished folder ``new``; ``target`` stays complete until the rename."""
    retired = target.with_name(target.name + ".old")
    shutil.rmtree(retired, ignore_errors=True)
    if target.exists():
        target.replace(retired)
    new.replace(target)
    shutil.rmtree(retired, ignore_errors=True)


def flush_folder(folder: Path) -> None:
    """Have the disk hold all files below a folder and its name, so that they also survive a power failure."""
    for path in (*(path for path in folder.rglob("*") if path.is_file()), folder, folder.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
