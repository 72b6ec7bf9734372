"""The journal of a repository's versions: which ones there were, which one serves, and which ones to go back to.

The pin in each config.pbtxt is the truth, because Triton reads nothing else; the journal follows it. The journal is a file in the
repository's root, where Triton looks only at folders.

Three models cannot change their pins in one step, so the journal decides: a move of the pins counts from the moment at which the
journal names it (``moving_to``). Everything that needs space is written before that. After it there are only renames, which
``recover`` does again when they were interrupted.
"""

import shutil
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from distilrec.core.errors import RepositoryError
from distilrec.core.files import write_text
from distilrec.core.specs import candidate_name
from export.repository.locks import is_served
from export.repository.versions import (
    JOURNAL,
    config_path,
    move_pin,
    parse_config,
    remove_version,
    review_path,
    save_pinned,
    served_version,
)

KEPT_GOOD = 3
"""Good versions whose folders are kept to go back to; older ones are retired."""

INTERRUPTED = "interrupted"
"""Reason of a version whose promotion was killed."""

State = Literal["staged", "waiting", "candidate", "serving", "good", "retired", "failed", "rejected"]
"""``waiting`` versions need a person's approval; a ``candidate`` is served next to the ``serving`` one. These and ``good`` versions
have folders; ``retired`` ones were rolled back from, withdrawn, or are too old to go back to."""

_GONE: tuple[State, ...] = ("failed", "retired", "rejected")
"""States of versions whose files are removed."""

_KEPT: tuple[State, ...] = ("good", "waiting", "candidate")
"""States of versions that are not pinned and have a configuration of their own."""


class Review(BaseModel):
    """A version that a person has to approve, and what that person decided."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    compared_with: int
    """The version that served when the page was written."""
    as_candidate: bool = False
    """Whether it is to be served next to that version, not in its place."""
    decision: Literal["approved", "rejected"] | None = None
    """None while it waits."""
    by: str = ""
    """Name of the person."""
    note: str = ""
    """Reason that the person gave."""
    time: datetime | None = None
    """Time of the decision, UTC."""


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
    forced: str = ""
    """Reason given for promoting it against the verdict on its update; empty for all others."""
    review: Review | None = None
    """None for a version that needed no approval."""

    @model_serializer(mode="wrap")
    def _without_nothing(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what does not concern the version: the journals of other versions stay what they were."""
        return {name: value for name, value in serialize(self).items() if name not in ("forced", "review") or value}


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


def load_journal(repository: Path) -> Journal:
    """The journal as it was written; an empty one where there is none. Raises RepositoryError when it cannot be read."""
    path = repository / JOURNAL
    try:
        return Journal.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else Journal()
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise RepositoryError(
            f"{path}: expected a journal of format version 1, found:\n{error}\nMove it away to begin a new one."
        ) from error


def read_journal(repository: Path, models: Sequence[str]) -> Journal:
    """Read the journal and make it agree with the pins; no file is changed.

    Raises:
        RepositoryError: the journal or a config.pbtxt cannot be read, or models pin different versions for no known reason.
    """
    journal = load_journal(repository)
    if journal.moving_to is not None:
        pinned = journal.moving_to
    else:
        pins = {model: served_version(repository, model) for model in models}
        pinned = next(iter(pins.values()))
        if len(set(pins.values())) != 1:
            raise RepositoryError(
                f"{repository}: found versions {pins} pinned, expected one and the same. Fill it: distilrec export"
            )
    path = config_path(repository, models[0], pinned)
    if journal.moving_to is None or not path.exists():
        path = repository / models[0] / "config.pbtxt"
    config = parse_config(path.read_text(encoding="utf-8"))
    return reconcile(journal, pinned, config.parameters["vocabulary_sha256"].string_value)


def reconcile(journal: Journal, pinned: int, vocabulary_sha256: str) -> Journal:
    """Make the journal agree with the pin, after an interruption or after an export that filled the repository again.

    Args:
        journal: The journal as it was written.
        pinned: Version that every config.pbtxt pins, or is about to pin.
        vocabulary_sha256: Digest of the vocabulary that the pinned student was made for.
    """
    rolled_back = journal.moving_to == pinned
    for entry in journal.versions:
        if entry.state == "staged" and entry.number != pinned:
            journal = journal.mark(entry.number, "failed", INTERRUPTED)
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


def decide_move(repository: Path, models: Sequence[str], journal: Journal, number: int) -> Journal:
    """Decide that all models serve version ``number`` from now on; ``recover`` then moves the pins.

    Args:
        repository: The model repository.
        models: Models whose pins are moved.
        journal: The journal so far.
        number: Version whose configurations lie in ``config_path``; its folders are there, or whole under their partial names.

    Returns:
        The journal as it was written. An error leaves the former decision.
    """
    for model in models:
        save_pinned(repository, model, number)
    journal = journal.model_copy(update={"moving_to": number})
    write_journal(repository, journal)
    return journal


def recover(repository: Path, models: Sequence[str], in_use: Collection[int] | None = None) -> Journal:
    """Finish or undo what was interrupted, and remove what is no longer good. The caller holds the lock.

    Args:
        repository: The model repository.
        models: Its models.
        in_use: Versions that the repository's server has loaded: their files stay. None where no server was asked: while one of
            ours runs on the repository, the files of all versions stay until a later call.

    Returns:
        The journal as it was written.

    Raises:
        RepositoryError: as ``read_journal``.
    """
    journal = read_journal(repository, models)
    (serving,) = journal.numbers("serving")
    if journal.moving_to == serving:
        for model in models:
            move_pin(repository, model, serving)
    for old in journal.numbers("good")[:-KEPT_GOOD]:
        journal = journal.mark(old, "retired")
    journal = journal.model_copy(update={"moving_to": None})
    _sweep_unfinished(repository, models)
    if in_use is not None or not is_served(repository):
        _sweep_versions(repository, models, journal, in_use or ())
    if journal != load_journal(repository):
        write_journal(repository, journal)
    return journal


def _sweep_unfinished(repository: Path, models: Sequence[str]) -> None:
    """Remove what an interrupted command was writing or removing; no server reads it."""
    (repository / f"{JOURNAL}.tmp").unlink(missing_ok=True)
    for folder in (repository / model for model in models):
        for leftover in (*folder.glob("*.partial"), *folder.glob("*.old")):
            shutil.rmtree(leftover, ignore_errors=True)
        for leftover in folder.glob("*.tmp"):
            leftover.unlink()


def _sweep_versions(repository: Path, models: Sequence[str], journal: Journal, in_use: Collection[int]) -> None:
    """Remove versions that are neither served nor to go back to, and configurations of such versions."""
    gone = {entry.number for entry in journal.versions if entry.state in _GONE} - set(in_use)
    kept = {entry.number for entry in journal.versions if entry.state in _KEPT} | set(in_use)
    kept -= set(journal.numbers("serving"))
    if not journal.numbers("candidate"):
        for model in models:
            shutil.rmtree(repository / candidate_name(model), ignore_errors=True)
    for number in gone:
        review_path(repository, number).unlink(missing_ok=True)
    for model in models:
        for number in gone:
            remove_version(repository, model, number)
        configs = {config_path(repository, model, number) for number in kept}
        for path in set((repository / model).glob("config.*.pbtxt")) - configs:
            path.unlink()
