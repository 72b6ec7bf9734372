"""Answers on disk, part by part, so that an interrupted run goes on; joined when all are there."""

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from clients import ClientError, Recommendations
from distilrec.core.errors import DataError
from distilrec.core.files import write_text

_STATE, _LOCK, _PART = "state.json", "lock", "part-{:06d}.parquet"
_ANSWER = {
    "item_ids": pl.List(pl.String()),
    "scores": pl.List(pl.Float32()),
    "unknown_ids": pl.List(pl.String()),
    "model_version": pl.String(),
    "error": pl.String(),
}


@dataclass(frozen=True)
class Job:
    """What answers depend on; parts of another job are of no use."""

    input_sha256: str
    k: int
    part_rows: int
    model: str
    model_version: str
    vocabulary_sha256: str

    def differences(self, former: dict[str, Any]) -> str:
        """What is not as in ``former``, in words; empty: nothing."""
        return ", ".join(name.replace("_", " ") for name, value in asdict(self).items() if former.get(name) != value)


class Parts:
    """Parts of an output, in a folder beside it.

    Args:
        output: the file that they become.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output.with_name(output.name + ".parts")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others away from the folder.

        Raises:
            DataError: somebody is at work there, or it cannot be written.
        """
        try:
            self.folder.mkdir(exist_ok=True)
            file = (self.folder / _LOCK).open("wb")
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be written ({error.strerror}), expected a folder for the output") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError(f"{self.folder}: another run writes this output; wait for it, or name another") from None
            yield

    def begin(self, job: Job) -> str:
        """Make the folder that of ``job``; returns what kept the parts there from being used, empty when nothing did."""
        try:
            former = json.loads((self.folder / _STATE).read_text(encoding="utf-8"))
            changed = job.differences(former if isinstance(former, dict) else {})
        except FileNotFoundError:
            changed = ""
        except ValueError:
            changed = "state"
        if changed or not (self.folder / _STATE).exists():
            self._remove_parts()
            write_text(self.folder / _STATE, json.dumps(asdict(job), indent=2) + "\n")
        return changed

    def finished(self) -> int:
        """How many parts there are before the first that is missing."""
        count = 0
        while self._path(count).exists():
            count += 1
        return count

    def write(self, number: int, answers: pl.DataFrame) -> None:
        """Write a part beside, then rename.

        Raises:
            DataError: there is no room for it, for example.
        """
        beside = self.folder / "part.tmp"
        with _explained(beside):
            answers.write_parquet(beside)
            beside.replace(self._path(number))

    def join(self, count: int) -> None:
        """Make the output of ``count`` parts, a piece at a time, and remove them. Raises as ``write``."""
        beside = self.output.with_name(self.output.name + ".tmp")
        answers = self.answers(count)
        with _explained(self.output):
            if self.output.suffix == ".parquet":
                answers.sink_parquet(beside)
            else:
                answers.sink_ndjson(beside)
            beside.replace(self.output)
        self._remove_parts()
        # Only what this module wrote: a file of somebody else keeps the folder.
        for name in (_STATE, _LOCK):
            (self.folder / name).unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def answers(self, count: int) -> pl.LazyFrame:
        """All rows of the first ``count`` parts."""
        return pl.scan_parquet([self._path(number) for number in range(count)])

    def _path(self, number: int) -> Path:
        return self.folder / _PART.format(number)

    def _remove_parts(self) -> None:
        # The state first: without it no part counts.
        (self.folder / _STATE).unlink(missing_ok=True)
        for path in [*self.folder.glob("part-*.parquet"), self.folder / "part.tmp"]:
            path.unlink(missing_ok=True)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, PolarsError) as error:
        raise DataError(f"{path}: cannot be written ({error}); finished parts are kept, start the same command again") from error


def table(key: tuple[str, pl.DataType], keys: Sequence[Any], answers: Sequence[Recommendations | ClientError]) -> pl.DataFrame:
    """A part of the output: one row an answer, with the reason where there is none."""
    columns: dict[str, list[Any]] = {key[0]: list(keys), **{name: [] for name in _ANSWER}}
    for answer in answers:
        found: tuple[Any, ...] = (None, None, None, None, getattr(answer, "reason", None))
        if isinstance(answer, Recommendations):
            found = (list(answer.ids), list(answer.scores), list(answer.unknown_ids), answer.model_version, None)
        for name, value in zip(_ANSWER, found, strict=True):
            columns[name].append(value)
    return pl.DataFrame(columns, schema={key[0]: key[1], **_ANSWER})
