"""The journal of a repository's versions: which ones there were, which one serves, and which ones to go back to.

The pin in each config.pbtxt is the truth, because Triton reads nothing else; the journal follows it. The journal is a file in the
repository's root, where Triton looks only at folders.
"""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from distilrec.core.errors import RepositoryError, UnwritableRepositoryError
from distilrec.core.files import lock, write_text
from export.repository.versions import JOURNAL, parse_config, pin, remove_version, served_version, version_configs

LOCK_NAME = "versions.lock"
"""Name of the lock file in a repository's root."""

State = Literal["staged", "serving", "good", "retired", "failed"]
"""Only ``serving`` and ``good`` versions have folders; ``retired`` ones were rolled back from or are too old to go back to."""


class VersionInfo(BaseModel):
    """What the journal holds of a version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    state: State
    artefact: str = ""
    """Digest of the artefact's manifest; empty when the version was not promoted but filled in."""
    vocabulary_sha256: str
    time: datetime
    """Time of the change to this state, UTC."""
    reason: str = ""
    """Reason of the failure; empty for other states."""


class Journal(BaseModel):
    """The content of ``versions.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    moving_to: int | None = None
    """The version to which the pins of all models are being moved: it is proven, so recovery finishes an interrupted move."""
    versions: tuple[VersionInfo, ...] = ()

    def find(self, number: int) -> VersionInfo | None:
        """The version with this number."""
        return next((entry for entry in self.versions if entry.number == number), None)

    def numbers(self, state: State) -> list[int]:
        """Numbers of the versions in a state, in rising order."""
        return [entry.number for entry in self.versions if entry.state == state]

    def put(self, entry: VersionInfo) -> "Journal":
        """A journal with ``entry`` added, or in the place of the one with its number."""
        others = [other for other in self.versions if other.number != entry.number]
        return self.model_copy(update={"versions": tuple(sorted([*others, entry], key=lambda e: e.number))})

    def mark(self, number: int, state: State, reason: str = "") -> "Journal":
        """A journal in which one version changes its state now."""
        entry = self.find(number)
        assert entry is not None
        return self.put(entry.model_copy(update={"state": state, "time": datetime.now(UTC), "reason": reason}))


@contextlib.contextmanager
def locked(repository: Path) -> Iterator[None]:
    """Keep other promotions out, whichever process they run in. The kernel releases the lock when a process is killed.

    Raises:
        RepositoryError: another promotion is at work.
        UnwritableRepositoryError: the repository cannot be written, at the beginning or within the context.
    """
    try:
        with lock(repository / LOCK_NAME):
            yield
    except BlockingIOError:
        raise RepositoryError(
            f"{repository}: found another promotion or rollback at work, expected none; wait until it is done"
        ) from None
    except OSError as error:
        raise UnwritableRepositoryError(f"{repository}: cannot be written: {error}") from error


def read_journal(repository: Path, models: Sequence[str]) -> Journal:
    """Read the journal and make it agree with the pins; no file is changed.

    Raises:
        RepositoryError: the journal or a config.pbtxt cannot be read, or models pin different versions for no known reason.
    """
    path = repository / JOURNAL
    try:
        journal = Journal.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else Journal()
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise RepositoryError(
            f"{path}: expected a journal of format version 1, found:\n{error}\nMove it away to begin a new one."
        ) from error
    pins = {model: served_version(repository, model) for model in models}
    pinned = set(pins.values())
    if journal.moving_to in pinned:
        pinned = {journal.moving_to}
    if len(pinned) != 1:
        raise RepositoryError(f"{repository}: found versions {pins} pinned, expected one and the same. Fill it: distilrec export")
    config = parse_config((repository / models[0] / "config.pbtxt").read_text(encoding="utf-8"))
    return reconcile(journal, pinned.pop(), config.parameters["vocabulary_sha256"].string_value)


def reconcile(journal: Journal, pinned: int, vocabulary_sha256: str) -> Journal:
    """Make the journal agree with the pin, after an interruption or after an export that filled the repository again.

    Args:
        journal: The journal as it was written.
        pinned: Version that every config.pbtxt pins.
        vocabulary_sha256: Digest of the vocabulary that the pinned student was made for.
    """
    rolled_back = journal.moving_to == pinned
    for entry in journal.versions:
        if entry.state == "staged" and entry.number != pinned:
            journal = journal.mark(entry.number, "failed", "interrupted")
        elif entry.state == "serving" and entry.number != pinned:
            journal = journal.mark(entry.number, "retired" if rolled_back and entry.number > pinned else "good")
    known = journal.find(pinned)
    if known is None or known.vocabulary_sha256 != vocabulary_sha256:
        filled = VersionInfo(number=pinned, state="serving", vocabulary_sha256=vocabulary_sha256, time=datetime.now(UTC))
        journal = journal.put(filled)
    elif known.state != "serving":
        journal = journal.mark(pinned, "serving")
    return journal


def write_journal(repository: Path, journal: Journal) -> None:
    """Replace the repository's journal."""
    write_text(repository / JOURNAL, journal.model_dump_json(indent=2) + "\n")


def recover(repository: Path, models: Sequence[str]) -> Journal:
    """Finish or undo what an interrupted promotion left, and return the journal. The caller holds the lock.

    Raises:
        RepositoryError: as ``read_journal``.
    """
    journal = read_journal(repository, models)
    (serving,) = journal.numbers("serving")
    if journal.moving_to == serving:
        pin(repository, version_configs(repository, models, serving), serving)
    for model in models:
        for leftover in (repository / model).glob("*.partial"):
            shutil.rmtree(leftover, ignore_errors=True)
        for number in (*journal.numbers("failed"), *journal.numbers("retired")):
            remove_version(repository, model, number)
    journal = journal.model_copy(update={"moving_to": None})
    write_journal(repository, journal)
    return journal
