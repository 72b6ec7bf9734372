"""The lock of a run's folder: one process at a time writes stages into it."""

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distilrec.core.errors import RunLockedError
from distilrec.core.files import lock
from distilrec.core.ranks import is_first

FILE_NAME = "lock"
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)

_held: set[tuple[Path, int]] = set()
"""Folders locked by this process, each with the thread that holds the lock."""


@contextmanager
def locked_run(folder: Path) -> Iterator[None]:
    """Keep other processes and threads from running stages in a run's folder. The kernel releases the lock of a killed process.

    A thread that holds the lock may take it again, since a command runs several stages. Of several processes that share a run
    (``core.ranks``), the first holds the lock for all. A folder in which nothing can be written
    needs no lock: unchanged stages are skipped there, and a stage that has to run fails when it writes.

    Args:
        folder: Folder of the run; it is made if it does not exist.

    Raises:
        RunLockedError: Another process or thread runs stages here.
    """
    holder = folder.resolve(), threading.get_ident()
    if holder in _held or not is_first():
        yield
        return
    with _file_lock(folder):
        _held.add(holder)
        try:
            yield
        finally:
            _held.discard(holder)


@contextmanager
def _file_lock(folder: Path) -> Iterator[None]:
    entered = False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder / FILE_NAME):
            entered = True
            yield
            return
    except BlockingIOError as error:
        if entered:
            raise
        raise RunLockedError(
            f"{folder}: found another distilrec that is running stages here, expected to be the only one; wait for it, or stop it."
        ) from error
    except OSError as error:
        if entered or error.errno not in _UNWRITABLE:
            raise
    yield
