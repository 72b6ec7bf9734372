"""The input file of a bulk run: histories as Parquet or JSON lines, validated as a whole, then read in parts."""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PanicException, PolarsError

from distilrec.core.errors import DataError

SUFFIXES = (".parquet", ".jsonl")
ROW = "row"
USER = "user_id"
_HISTORY, _EXCLUDE, _FILTER, _ALLOW = "history", "exclude", "filter", "allow"
_LISTED = (_HISTORY, _EXCLUDE, _FILTER, _ALLOW)
"""Columns that hold lists of texts."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_LISTS = (pl.List(pl.String), pl.List(pl.Null))


@dataclass(frozen=True)
class InputRows:
    """Consecutive rows of an input."""

    keys: list[Any]
    """Name of each row in the output: the user's id, or the row's number, counted from 1."""
    histories: list[Any]
    """A list of item ids for each row. In an invalid row it may be None, or contain None."""
    exclude: list[Any]
    """A list of item ids for each row."""
    filters: list[Any]
    """For each row a list of texts such as "category=Nails"; None for none."""
    allow: list[Any]
    """For each row a list of item ids; None where every item may be recommended."""


@dataclass(frozen=True)
class BulkInput:
    """A file that has been validated."""

    path: Path
    rows: int
    sha256: str
    key: tuple[str, pl.DataType]
    """Name and type of the column that names a row."""
    columns: tuple[str, ...]
    """Columns of the file that are read."""

    def rows_from(self, begin: int, size: int) -> Iterator[InputRows]:
        """Read the rows from ``begin`` on (counted from 0), ``size`` at a time; yields nothing for an empty file.

        Raises:
            DataError: The content is damaged, or was changed since the file was opened.
        """
        with _named_errors(self.path):
            yield from self._rows_from(begin, size)

    def check_unchanged(self) -> None:
        """Raise DataError if the file has other content than when it was opened: its results would be those of a mixture."""
        with _named_errors(self.path):
            if _sha256(self.path) != self.sha256:
                raise DataError(
                    f"{self.path}: found that it was changed while it was read, expected a finished file. Start the same command"
                    " again."
                )

    def _rows_from(self, begin: int, size: int) -> Iterator[InputRows]:
        parts = self._parquet(begin, size) if self.path.suffix == ".parquet" else self._json_lines(begin, size)
        for offset, rows in zip(range(begin, self.rows, size), parts, strict=False):
            count = len(rows[_HISTORY])
            numbers = list(range(offset + 1, offset + count + 1))
            nothing = [None] * count
            exclude = [item_ids or [] for item_ids in rows.get(_EXCLUDE, nothing)]
            others = (rows.get(name, nothing) for name in (_FILTER, _ALLOW))
            yield InputRows(rows.get(USER, numbers), rows[_HISTORY], exclude, *others)

    def _parquet(self, begin: int, size: int) -> Iterator[dict[str, list[Any]]]:
        selected = pl.scan_parquet(self.path, glob=False).select(self.columns)
        for offset in range(begin, self.rows, size):
            yield selected.slice(offset, size).collect().to_dict(as_series=False)

    def _json_lines(self, begin: int, size: int) -> Iterator[dict[str, list[Any]]]:
        with self.path.open("rb") as file:
            lines = itertools.islice(file, begin, None)
            while part := [json.loads(line) for line in itertools.islice(lines, size)]:
                yield {name: [row.get(name) for row in part] for name in self.columns}


def open_input(path: Path) -> BulkInput:
    """Validate an input file.

    It has a column ``history``, lists of item ids, and may have ``user_id``, ``exclude`` and ``allow`` (lists of item ids) and
    ``filter`` (lists of texts such as "category=Nails"); other columns are not read.

    Raises:
        DataError: the file cannot be read, is neither Parquet nor JSON lines, or a column is missing or has another type; the
            message names file, column and line.
    """
    check_suffix(path)
    with _named_errors(path):
        sha256 = _sha256(path)
        return _open_parquet(path, sha256) if path.suffix == ".parquet" else _open_json_lines(path, sha256)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn the errors of readers into a DataError that names the file; a panic of Polars, too, which is no Exception."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}), expected a file of histories") from error
    except (PolarsError, PanicException, ValueError, AttributeError, RecursionError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        kind = "Parquet" if path.suffix == ".parquet" else "JSON lines"
        raise DataError(f"{path}: cannot be read as {kind} ({reason[:200]}), expected a whole file. Write it again.") from error


def check_suffix(path: Path) -> None:
    """Raise DataError unless the suffix is one of ``SUFFIXES``."""
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: found the suffix {path.suffix!r}, expected {' or '.join(SUFFIXES)}")


def _open_parquet(path: Path, sha256: str) -> BulkInput:
    scan = pl.scan_parquet(path, glob=False)
    schema = scan.collect_schema()
    rows = scan.select(pl.len()).collect().item()
    if _HISTORY not in schema:
        raise DataError(f"{path}: column {_HISTORY!r}: missing, expected lists of item ids; found the columns {', '.join(schema)}")
    for name in _LISTED:
        if name in schema and schema[name] not in (*_LISTS, pl.Null):
            raise DataError(f"{path}: column {name!r}: found {schema[name]}, expected List(String): item ids are strings")
    key: tuple[str, pl.DataType] = ROW, pl.Int64()
    if USER in schema:
        key = USER, schema[USER]
        if not (key[1].is_integer() or key[1] == pl.String):
            raise DataError(f"{path}: column {USER!r}: found {key[1]}, expected strings or integers")
    return BulkInput(path, rows, sha256, key, tuple(name for name in (USER, *_LISTED) if name in schema))


def _open_json_lines(path: Path, sha256: str) -> BulkInput:
    columns, kinds, rows = set[str](), set[type](), 0
    with path.open("rb") as file:
        for rows, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}: line {rows}: not JSON ({error}), expected an object in each line") from error
            if not isinstance(row, dict) or _HISTORY not in row:
                raise DataError(f"{path}: column {_HISTORY!r}, line {rows}: missing, found {row!r:.100}")
            for name in _LISTED:
                if (value := row.get(name)) is not None and not _are_ids(value):
                    raise DataError(f"{path}: column {name!r}, line {rows}: found {value!r:.100}, expected a list of strings")
            columns |= row.keys() & {USER, *_LISTED}
            kinds.add(_kind(row.get(USER)))
            if not (kinds <= {str, type(None)} or kinds <= {int, type(None)}):
                raise DataError(f"{path}: column {USER!r}, line {rows}: found {row[USER]!r:.100}, expected strings, or integers")
    key = (USER, pl.Int64() if int in kinds else pl.String()) if USER in columns else (ROW, pl.Int64())
    return BulkInput(path, rows, sha256, key, tuple(sorted(columns | {_HISTORY})))


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and {_kind(item_id) for item_id in value} <= {str, type(None)}


def _kind(value: Any) -> type:
    """Return the value's type; another one if Parquet cannot hold it: half a surrogate pair, or a number of more than 64 bits."""
    if isinstance(value, str):
        return str if value.isascii() or _SURROGATE.search(value) is None else bytes
    return type(value) if not isinstance(value, int) or -(1 << 63) <= value < 1 << 63 else float
