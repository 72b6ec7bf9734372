"""The updates of a run: further generations of its models, each in a folder of its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distilrec.core.errors import RepositoryError
from distilrec.core.manifest import FILE_NAME, Manifest, read_manifest

if TYPE_CHECKING:
    import polars as pl

UPDATES = "updates"
"""Folder of the updates in that of the run, each in a folder of its number."""


@dataclass(frozen=True)
class Update:
    """The stage folders of one update."""

    number: int
    folder: Path

    @property
    def data(self) -> Path:
        """Folder of the stage ``update-data``."""
        return self.folder / "data"

    @property
    def text(self) -> Path:
        """Folder of the embeddings of titles and texts."""
        return self.folder / "text"

    @property
    def targets(self) -> Path:
        """Folder of the former student's soft targets on the replay."""
        return self.folder / "targets"

    @property
    def student(self) -> Path:
        """Folder of the student."""
        return self.folder / "student"

    @property
    def verdict(self) -> Path:
        """Folder of the verdict on it."""
        return self.folder / "verdict"

    @property
    def export(self) -> Path:
        """Folder of the artefact."""
        return self.folder / "export"

    @property
    def digests(self) -> list[str]:
        """Digests of the files that it learns from."""
        return list(read_manifest(self.data).settings["interactions_sha256"])

    @property
    def is_finished(self) -> bool:
        """Whether all its stages are."""
        return (self.export / FILE_NAME).exists()

    def events(self) -> "pl.DataFrame":
        """The events that it was given."""
        from distilrec.data.update_stage import given_events  # here, because it loads polars, which is optional

        return given_events(self.data)


def update_of(run: Path, number: int) -> Update:
    """The update of a number, in the folder of a run."""
    return Update(number, run / UPDATES / f"{number:04}")


def all_updates(run: Path) -> list[Update]:
    """All updates of a run that have their events, in the order of their numbers."""
    numbers = (path.name for path in (run / UPDATES).glob("*") if path.name.isdigit() and (path / "data" / FILE_NAME).exists())
    return [update_of(run, number) for number in sorted(map(int, numbers))]


def updates_of(run: Path, line: str) -> list[Update]:
    """Those of a line: of the trained student of this digest. A student that is trained again begins a new line."""
    return [update for update in all_updates(run) if read_manifest(update.data).settings["line"] == line]


def newest_taken(updates: list[Update], repository: Path) -> Update | None:
    """The newest update that the next one builds on, and that is served: finished, and taken by its verdict or by promotion."""
    return next((update for update in reversed(updates) if update.is_finished and is_taken(update, repository)), None)


def is_taken(update: Update, repository: Path) -> bool:
    """Whether a finished update is one to build on: its verdict takes it, or it was promoted all the same.

    Args:
        update: A finished update.
        repository: Model repository that the run's models are served from.
    """
    return bool(read_manifest(update.verdict).metrics["update"]["taken"]) or _was_served(read_manifest(update.export), repository)


def _was_served(artefact: Manifest, repository: Path) -> bool:
    # Here, because it loads what reads a model repository, which is optional and slow to load.
    from export.repository.journal import load_journal

    try:
        versions = load_journal(repository).versions
    except RepositoryError:
        return False
    return any(version.artefact == artefact.digest and version.state in {"serving", "good", "retired"} for version in versions)
