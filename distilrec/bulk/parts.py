"""Results on disk, part by part, so that an interrupted run can continue; joined when all parts exist."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from clients import ClientError
from clients.codec import Result
from distilrec.core.errors import DataError
from distilrec.core.files import lock, write_text

_STATE, _LOCK, _TEMPORARY, _PART = "state.json", "lock", "part.tmp", "part-{:06d}.parquet"
_RESULT = {
    "item_ids": pl.List(pl.String()),
    "scores": pl.List(pl.Float32()),
    "unknown_ids": pl.List(pl.String()),
    "model_version": pl.String(),
    "error": pl.String(),
}


@dataclass(frozen=True)
class BulkJob:
    """Everything that the results depend on; parts of another job are not reused."""

    input_sha256: str
    k: int
    part_rows: int
    model: str
    model_version: str
    vocabulary_sha256: str
    filter: list[str] | None = None
    """Filter of all rows, as texts such as "category=Nails"."""
    repeats: str | None = None
    """Whether items of the histories may be recommended; None where they may not."""

    def differences(self, former: dict[str, Any]) -> str:
        """Return the names of the fields that differ from ``former``, in words; empty if none does."""
        return ", ".join(name.replace("_", " ") for name, value in asdict(self).items() if former.get(name) != value)


class Parts:
    """Parts of an output, in a folder next to it.

    Args:
        output: File that the parts become.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output.with_name(output.name + ".parts")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against other runs.

        Raises:
            DataError: another run uses the folder, or it cannot be written.
        """
        try:
            self.folder.mkdir(exist_ok=True)
            held = ExitStack()
            held.enter_context(lock(self.folder / _LOCK))
        except BlockingIOError:
            raise DataError(f"{self.folder}: another run writes this output; wait for it, or name another") from None
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be written ({error.strerror}), expected a folder for the output") from error
        with held:
            yield

    def begin(self, job: BulkJob) -> str:
        """Prepare the folder for ``job``: remove parts of another job, and return how it differs; empty if no part was removed."""
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
        """Return how many parts precede the first missing one."""
        count = 0
        while self._path(count).exists():
            count += 1
        return count

    def write(self, number: int, answers: pl.DataFrame) -> None:
        """Write a part under a temporary name, then rename it.

        Raises:
            DataError: the part cannot be written, for example because the disk is full.
        """
        temporary = self.folder / _TEMPORARY
        with _as_data_error(temporary):
            answers.write_parquet(temporary)
            temporary.replace(self._path(number))

    def join(self, count: int) -> None:
        """Join the first ``count`` parts to the output without holding all in memory, and remove them. Raises as ``write``."""
        temporary = self.output.with_name(self.output.name + ".tmp")
        answers = self.answers(count)
        with _as_data_error(self.output):
            if self.output.suffix == ".parquet":
                answers.sink_parquet(temporary)
            else:
                answers.sink_ndjson(temporary)
            temporary.replace(self.output)
        self._remove_parts()
        # Only files that this module wrote: the folder stays if there are others.
        for name in (_STATE, _LOCK):
            (self.folder / name).unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def answers(self, count: int) -> pl.LazyFrame:
        """Return all rows of the first ``count`` parts."""
        return pl.scan_parquet([self._path(number) for number in range(count)])

    def _path(self, number: int) -> Path:
        return self.folder / _PART.format(number)

    def _remove_parts(self) -> None:
        # The state first: without it no part counts.
        (self.folder / _STATE).unlink(missing_ok=True)
        for path in [*self.folder.glob("part-*.parquet"), self.folder / _TEMPORARY]:
            path.unlink(missing_ok=True)


@contextmanager
def _as_data_error(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, PolarsError) as error:
        raise DataError(f"{path}: cannot be written ({error}); finished parts are kept, start the same command again") from error


def result_table(key: tuple[str, pl.DataType], keys: Sequence[Any], results: Sequence[Result]) -> pl.DataFrame:
    """Make a part of the output.

    Args:
        key: Name and type of the column that names a row.
        keys: Values of that column.
        results: For each key its recommendations, or the error that the column ``error`` shall hold.
    """
    columns: dict[str, list[Any]] = {key[0]: list(keys), **{name: [] for name in _RESULT}}
    for result in results:
        values: tuple[Any, ...]
        if isinstance(result, ClientError):
            values = (None, None, None, None, result.reason)
        else:
            values = (list(result.ids), list(result.scores), list(result.unknown_ids), result.model_version, None)
        for name, value in zip(_RESULT, values, strict=True):
            columns[name].append(value)
    return pl.DataFrame(columns, schema={key[0]: key[1], **_RESULT})
