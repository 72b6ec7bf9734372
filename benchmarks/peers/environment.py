"""The environment of the peers: made once in a run's folder, and made anew when its requirements change."""

import hashlib
import logging
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

from distilrec.core.files import write_text

logger = logging.getLogger(__name__)

_FOLDER = Path(__file__).parent
_REQUIREMENTS = (("requirements.txt", ()), ("requirements-no-deps.txt", ("--no-deps",)))
_MARKER = "distilrec-requirements"
_PIP_TIMEOUT_S = 3600
_TOLD_CHARACTERS = 300


@dataclass(frozen=True)
class Environment:
    """An environment, and what could not be installed into it."""

    python: Path
    failed: dict[str, str]
    """Why, by requirement."""


def make_environment(folder: Path) -> Environment:
    """Make the environment, or take the one that is there when it was made from the same requirements without a failure.

    What cannot be installed is left out, so that the others are measured all the same.

    Args:
        folder: of the environment; what is there and is something else is replaced.
    """
    python = folder / "bin" / "python"
    digest = hashlib.sha256(b"".join((_FOLDER / name).read_bytes() for name, _ in _REQUIREMENTS)).hexdigest()
    marker = folder / _MARKER
    if marker.is_file() and marker.read_text(encoding="utf-8") == digest:
        return Environment(python, {})
    logger.info("peers: installing into %s", folder)
    venv.create(folder, with_pip=True, clear=True)
    failed: dict[str, str] = {}
    for name, options in _REQUIREMENTS:
        if _pip(python, *options, "--requirement", str(_FOLDER / name)) is not None:
            # One that cannot be had must not take the others with it.
            wanted = [line for line in (_FOLDER / name).read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
            found = {requirement: _pip(python, *options, requirement) for requirement in wanted}
            failed |= {requirement: reason for requirement, reason in found.items() if reason}
    if not failed:
        write_text(marker, digest)
    return Environment(python, failed)


def _pip(python: Path, *arguments: str) -> str | None:
    """Install; returns the last words of pip where it failed."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"pip did not end within {_PIP_TIMEOUT_S} s"
    return None if done.returncode == 0 else done.stderr.strip()[-_TOLD_CHARACTERS:] or f"pip ended with status {done.returncode}"
