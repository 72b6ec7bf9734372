"""Requests in a file: histories to recommend for, as Parquet or as JSON lines; read in parts, checked before the first is asked."""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from distilrec.core.errors import DataError

SUFFIXES = (".parquet", ".jsonl")
ROW = "row"
USER = "user_id"
_HISTORY, _EXCLUDE = "history", "exclude"
_SURROGATE = re.compile("[\ud800-\udfff]")
_LISTS = (pl.List(pl.String), pl.List(pl.Null))


@dataclass(frozen=True)
class Requests:
    """Some rows of an input."""

    keys: list[Any]
    """What names each row in the output: the user's id, or the row's number, counted from 1."""
    histories: list[Any]
    """Of each row a list of item ids; None, or ids that are none, where the row has no history that can be asked."""
    exclude: list[Any]
    """Of each row a list of item ids."""


@dataclass(frozen=True)
class BulkInput:
    """A file that has been looked through once."""

    path: Path
    rows: int
    sha256: str
    key: tuple[str, pl.DataType]
    """Name and type of the column that names a row."""
    columns: tuple[str, ...]
    """Which of ours there are."""

    def requests(self, begin: int, size: int) -> Iterator[Requests]:
        """The rows from ``begin`` on (counted from 0), ``size`` at a time; nothing for an empty file."""
        parts = self._parquet(begin, size) if self.path.suffix == ".parquet" else self._json_lines(begin, size)
        for offset, rows in zip(range(begin, self.rows, size), parts, strict=False):
            count = len(rows[_HISTORY])
            numbers = list(range(offset + 1, offset + count + 1))
            exclude = [found or [] for found in rows.get(_EXCLUDE, [None] * count)]
            yield Requests(rows.get(USER, numbers), rows[_HISTORY], exclude)

    def _parquet(self, begin: int, size: int) -> Iterator[dict[str, list[Any]]]:
        selected = pl.scan_parquet(self.path).select(self.columns)
        for offset in range(begin, self.rows, size):
            yield selected.slice(offset, size).collect().to_dict(as_series=False)

    def _json_lines(self, begin: int, size: int) -> Iterator[dict[str, list[Any]]]:
        with self.path.open("rb") as file:
            lines = itertools.islice(file, begin, None)
            while part := [json.loads(line) for line in itertools.islice(lines, size)]:
                yield {name: [row.get(name) for row in part] for name in self.columns}


def open_input(path: Path) -> BulkInput:
    """Look through a file of requests.

    It has a column ``history``, lists of item ids, and may have ``user_id`` and ``exclude``; others are not read.

    Raises:
        DataError: it cannot be read, is neither Parquet nor JSON lines, or a column is missing or of another type; file, column
            and line are named.
    """
    check_suffix(path)
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return _open_parquet(path, sha256) if path.suffix == ".parquet" else _open_json_lines(path, sha256)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}), expected a file of histories") from error


def check_suffix(path: Path) -> None:
    """Raise DataError unless it is a kind of file that can be read and written."""
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: found the suffix {path.suffix!r}, expected {' or '.join(SUFFIXES)}")


def _open_parquet(path: Path, sha256: str) -> BulkInput:
    try:
        scan = pl.scan_parquet(path)
        schema = scan.collect_schema()
        rows = scan.select(pl.len()).collect().item()
    except PolarsError as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from error
    if _HISTORY not in schema:
        raise DataError(f"{path}: column {_HISTORY!r}: missing, expected lists of item ids; found the columns {', '.join(schema)}")
    for name in (_HISTORY, _EXCLUDE):
        if name in schema and schema[name] not in (*_LISTS, pl.Null):
            raise DataError(f"{path}: column {name!r}: found {schema[name]}, expected List(String): item ids are strings")
    key: tuple[str, pl.DataType] = ROW, pl.Int64()
    if USER in schema:
        key = USER, schema[USER]
        if not (key[1].is_integer() or key[1] == pl.String):
            raise DataError(f"{path}: column {USER!r}: found {key[1]}, expected strings or integers")
    return BulkInput(path, rows, sha256, key, tuple(name for name in (USER, _HISTORY, _EXCLUDE) if name in schema))


def _open_json_lines(path: Path, sha256: str) -> BulkInput:
    found, kinds, rows = set[str](), set[type](), 0
    with path.open("rb") as file:
        for rows, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}: line {rows}: not JSON ({error}), expected an object in each line") from error
            if not isinstance(row, dict) or _HISTORY not in row:
                raise DataError(f"{path}: column {_HISTORY!r}, line {rows}: missing, found {row!r:.100}")
            for name in (_HISTORY, _EXCLUDE):
                if (value := row.get(name)) is not None and not _are_ids(value):
                    raise DataError(f"{path}: column {name!r}, line {rows}: found {value!r:.100}, expected a list of strings")
            found |= row.keys() & {USER, _HISTORY, _EXCLUDE}
            kinds.add(_kind(row.get(USER)))
            if not (kinds <= {str, type(None)} or kinds <= {int, type(None)}):
                raise DataError(f"{path}: column {USER!r}, line {rows}: found {row[USER]!r:.100}, expected strings, or integers")
    key = (USER, pl.Int64() if int in kinds else pl.String()) if USER in found else (ROW, pl.Int64())
    return BulkInput(path, rows, sha256, key, tuple(sorted(found | {_HISTORY})))


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and {_kind(item_id) for item_id in value} <= {str, type(None)}


def _kind(value: Any) -> type:
    """Its type, as far as Parquet can hold it: neither halves of a surrogate pair nor numbers of more than 64 bits."""
    if isinstance(value, str):
        return str if value.isascii() or _SURROGATE.search(value) is None else bytes
    return type(value) if not isinstance(value, int) or -(1 << 63) <= value < 1 << 63 else float
