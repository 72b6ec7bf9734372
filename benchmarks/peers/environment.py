"""The virtual environment of the peers, which is made once in a run's folder, and again when its requirements change."""

import hashlib
import logging
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from distilrec.core.files import write_text

logger = logging.getLogger(__name__)

_FOLDER = Path(__file__).parent
_REQUIREMENTS = (("requirements.txt", ()), ("requirements-no-deps.txt", ("--no-deps",)))
"""Requirement files, and pip's options for each."""
_MARKER = "distilrec-requirements"
"""File in the environment with the digest of the requirements that it was made from."""
_PIP_TIMEOUT_S = 3600
"""Time for a download of 1.5 GB over a slow connection."""
_ERROR_CHARACTERS = 300
"""Characters kept of the end of pip's output, where it states the reason of a failure."""


@dataclass(frozen=True)
class PeerEnvironment:
    """A virtual environment, and the requirements that could not be installed into it."""

    python: Path
    failed: dict[str, str]
    """Reason by requirement."""


def make_environment(folder: Path) -> PeerEnvironment:
    """Make the environment, unless it exists already and all of the same requirements were installed into it.

    A requirement that cannot be installed is left out, so that the other peers can still be measured.

    Args:
        folder: Folder of the environment; an environment with other requirements is replaced.
    """
    python = folder / "bin" / "python"
    digest = hashlib.sha256(b"".join((_FOLDER / name).read_bytes() for name, _ in _REQUIREMENTS)).hexdigest()
    marker = folder / _MARKER
    if marker.is_file() and marker.read_text(encoding="utf-8") == digest:
        return PeerEnvironment(python, {})
    logger.info("peers: installing into %s", folder)
    venv.create(folder, with_pip=False, clear=True)
    failed: dict[str, str] = {}
    for name, options in _REQUIREMENTS:
        if _pip_install(python, *options, "--requirement", str(_FOLDER / name)) is not None:
            # Pip installs nothing of a file with a faulty requirement, so each requirement is tried on its own.
            requirements = [line for line in (_FOLDER / name).read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
            reasons = {requirement: _pip_install(python, *options, requirement) for requirement in requirements}
            failed |= {requirement: reason for requirement, reason in reasons.items() if reason}
    if not failed:
        write_text(marker, digest)
    return PeerEnvironment(python, failed)


def _pip_install(python: Path, *arguments: str) -> str | None:
    """Install into the environment of ``python`` with this environment's pip; returns the reason of a failure, or None."""
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    try:
        done = subprocess.run([*pip, *arguments], capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"pip did not end within {_PIP_TIMEOUT_S} s"
    return None if done.returncode == 0 else done.stderr.strip()[-_ERROR_CHARACTERS:] or f"pip ended with status {done.returncode}"
