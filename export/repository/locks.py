"""Two locks of a repository: one lets a single command change it, the other shows that a server runs on it."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from distilrec.core.errors import RepositoryError, UnwritableRepositoryError
from distilrec.core.files import lock

LOCK_NAME = "versions.lock"
"""Name of the lock file in a repository's root."""


@contextlib.contextmanager
def locked(repository: Path) -> Iterator[None]:
    """Keep other changes out, whichever process they run in. The kernel releases the lock when a process is killed.

    Raises:
        RepositoryError: another promotion, rollback or export is at work.
        UnwritableRepositoryError: the repository cannot be written, at the beginning or within the context.
    """
    try:
        with lock(repository / LOCK_NAME):
            yield
    except BlockingIOError:
        raise RepositoryError(
            f"{repository}: found another promotion, rollback or export at work, expected none; wait until it is done"
        ) from None
    except OSError as error:
        raise UnwritableRepositoryError(f"{repository}: cannot be written: {error}") from error


def hold_as_server(repository: Path) -> int | None:
    """Take part in the lock that says that a server runs on this repository.

    Several servers may hold it. It lasts as long as any process has the descriptor, so a server that inherits it holds it on
    when the process that started it is killed.

    Returns:
        The descriptor; None where this file system has no such locks.
    """
    descriptor = None
    try:
        # The folder itself: so that it also works where nothing can be written.
        descriptor = os.open(repository, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        return None
    return descriptor


def is_served(repository: Path) -> bool:
    """Whether a server that DistilRec started on this machine runs on the repository. Others cannot be known."""
    try:
        descriptor = os.open(repository, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
