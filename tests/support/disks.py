"""A real disk that can be full, and writes that fail as if it was."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from distilrec.core import files


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 3 MB of its own, so that temporary files of the system lie on another one."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting a small file system is not permitted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(disk: Path, left_bytes: int = 0) -> Path:
    """Fill the disk but for some bytes; returns the file to delete for space to come back."""
    found = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(bytes(max(found.f_bavail * found.f_bsize - left_bytes, 0)))
    return filler


def failing_writes(patch: pytest.MonkeyPatch, left: int) -> None:
    """Let ``left`` files be written; each one after that finds the disk full."""
    remaining = iter(range(left))

    def failing(function):
        def write(*arguments, **settings):
            if next(remaining, None) is None:
                raise OSError(errno.ENOSPC, "No space left on device")
            return function(*arguments, **settings)

        return write

    patch.setattr(files, "replace_whole", failing(files.replace_whole))
    patch.setattr(shutil, "copyfile", failing(shutil.copyfile))
    patch.setattr(Path, "write_bytes", failing(Path.write_bytes))
