"""Writing files so that a reader sees the old content or the new, never half of it."""

import shutil
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write beside, then rename."""
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def replace_folder(new: Path, target: Path) -> None:
    """Put the finished folder ``new`` in the place of ``target``, which stays whole until the last moment."""
    retired = target.with_name(target.name + ".old")
    shutil.rmtree(retired, ignore_errors=True)
    if target.exists():
        target.replace(retired)
    new.replace(target)
    shutil.rmtree(retired, ignore_errors=True)
