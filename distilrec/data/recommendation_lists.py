"""Lists of recommended items that somebody else's model wrote into Parquet files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from distilrec.core.errors import DataError
from distilrec.core.specs import PADDING
from distilrec.data.files import shown
from distilrec.data.vocabulary import Vocabulary

USER, HISTORY, POSITION, ITEMS, SCORES = "user_id", "history", "position", "item_ids", "scores"
_COLUMNS = (USER, HISTORY, POSITION, ITEMS, SCORES)
_ROW = "row"


@dataclass(frozen=True)
class RecommendationLists:
    """R lists, one after another; each row of the files is one, in the order of the files."""

    user_ids: tuple[str, ...] | None
    """[R]: whom each list is for; None where the files have histories instead."""
    positions: NDArray[np.int64] | None
    """int64 [R]: length of the prefix of the user's sequence that each list is for; None for all that is for training."""
    histories: tuple[tuple[str, ...], ...] | None
    """[R]: item ids of the history that each list is for, oldest first; None where the files have users instead."""
    owners: NDArray[np.int64]
    """int64 [E]: list of each entry, in rising order."""
    items: NDArray[np.int32]
    """int32 [E]: item index 1..N, best first within a list, no item twice in a list."""
    scores: NDArray[np.float64]
    """float64 [E]; minus the logarithm of the rank (from 1) where the files have no scores."""
    unknown_items: int
    """Number of entries whose item id is not in the vocabulary; they are left out."""
    repeated_items: int
    """Number of entries whose item is already in the list with a better score; they are left out."""
    has_scores: bool

    def __len__(self) -> int:
        named = self.histories if self.user_ids is None else self.user_ids
        assert named is not None
        return len(named)


def list_files(path: Path) -> list[Path]:
    """The Parquet files of a path, which is one or a folder of them, in order of their names.

    Raises:
        DataError: There is none.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        found = "a folder without one" if path.is_dir() else "no such file"
        raise DataError(
            f"{path}: found {found}, expected a Parquet file, or a folder of *.parquet, with the lists of an external teacher."
            " Correct the path in section [teachers.NAME]."
        )
    return files


def read_lists(path: Path, vocabulary: Vocabulary) -> RecommendationLists:
    """Read the lists of a Parquet file, or of all ``*.parquet`` of a folder.

    Args:
        path: File or folder. Columns: ``user_id`` (text or whole numbers) or ``history`` (lists of item ids, oldest first, which
            counts where both are there); ``item_ids`` (lists); and, if wanted, ``scores`` (lists of numbers) and ``position``
            (whole numbers from 1). Others are not read.
        vocabulary: The run's items.

    Raises:
        DataError: A file cannot be read, lacks a column, has one of another type, has lists of items and scores that differ in
            length, or a score that is no finite number. The message names file, column and row.
    """
    files = list_files(path)
    frames = [_read(file) for file in files]
    for file, frame in zip(files, frames, strict=True):
        if frame.columns != frames[0].columns:
            raise DataError(
                f"{file}: found the columns {', '.join(frame.columns)}, expected {', '.join(frames[0].columns)} as in"
                f" {files[0].name}. Write all files of a folder with the same columns."
            )
    frame = pl.concat(frames)
    owners, items, scores, unknown, repeated = _entries(frame, vocabulary)
    return RecommendationLists(
        user_ids=tuple(frame[USER]) if USER in frame.columns else None,
        positions=frame[POSITION].to_numpy() if POSITION in frame.columns else None,
        histories=tuple(map(tuple, frame[HISTORY])) if HISTORY in frame.columns else None,
        owners=owners,
        items=items,
        scores=scores,
        unknown_items=unknown,
        repeated_items=repeated,
        has_scores=SCORES in frame.columns,
    )


def _read(path: Path) -> pl.DataFrame:
    """The known columns of one file with their types, checked; user ids and item ids as text."""
    with _named_errors(path):
        schema = pl.read_parquet_schema(path)
        names = [name for name in _COLUMNS if name in schema]
        if HISTORY in names:
            names = [name for name in names if name not in (USER, POSITION)]
        if ITEMS not in names or not {USER, HISTORY} & set(names):
            raise DataError(
                f"{path}: found the columns {', '.join(map(shown, schema))}, expected {ITEMS!r}, and {USER!r} or {HISTORY!r}."
                " Rename your columns."
            )
        frame = pl.read_parquet(path, columns=names, glob=False).select(names)
    for name in names:
        frame = frame.with_columns(_typed(path, frame[name]))
    _check_values(path, frame)
    return frame


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn the errors of Polars into a DataError that names the file; its panics, too, which are no Exceptions."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{path}: cannot be read ({reason[:200]}), expected a whole Parquet file. Write it again.") from error


def _typed(path: Path, values: pl.Series) -> pl.Series:
    """A column with its type; lists that are null are empty."""
    name, dtype = values.name, values.dtype
    if name == POSITION:
        if not dtype.is_integer():
            raise _wrong_type(path, values, "whole numbers")
        return values.cast(pl.Int64)
    if name == USER:
        if not (dtype.is_integer() or dtype == pl.String):
            raise _wrong_type(path, values, "text or whole numbers")
        return values.cast(pl.String).str.strip_chars()
    inner = dtype.inner if isinstance(dtype, (pl.List, pl.Array)) else None
    if name == SCORES:
        if inner is None or not (inner.is_numeric() or inner == pl.Null):
            raise _wrong_type(path, values, "lists of numbers")
        return values.cast(pl.List(pl.Float64)).fill_null([])
    if inner is None or not (inner.is_integer() or inner in (pl.String, pl.Null)):
        raise _wrong_type(path, values, "lists of item ids, text or whole numbers")
    return values.cast(pl.List(pl.String)).fill_null([])


def _wrong_type(path: Path, values: pl.Series, expected: str) -> DataError:
    return DataError(f"{path}: column {values.name!r}: found {values.dtype}, expected {expected}. Write the column with that type.")


def _check_values(path: Path, frame: pl.DataFrame) -> None:
    """Raise a DataError for the first row with a wrong value, if any."""
    if POSITION in frame.columns:
        faulty = frame[POSITION].is_null() | (frame[POSITION] < 1)
        _fail_at(path, frame, faulty, POSITION, "1 for the list after a user's first item, or more")
    if SCORES in frame.columns:
        differ = frame[SCORES].list.len() != frame[ITEMS].list.len()
        lengths = f"as many scores as {ITEMS!r} has items"
        _fail_at(path, frame, differ, SCORES, lengths)
        finite = frame.select(pl.col(SCORES).list.eval(pl.element().is_finite().fill_null(value=False)).list.all())[SCORES]
        _fail_at(path, frame, ~finite, SCORES, "finite numbers")


def _fail_at(path: Path, frame: pl.DataFrame, faulty: pl.Series, name: str, expected: str) -> None:
    if not faulty.any():
        return
    first = int(faulty.arg_max() or 0)
    value = frame.item(first, name)
    found = f"{len(value)} value(s), {shown(value.to_list())}" if isinstance(value, pl.Series) else shown(value)
    raise DataError(
        f"{path}: column {name!r}, row {first + 1}: found {found}, expected {expected} ({int(faulty.sum())} row(s) like this)"
    )


def _entries(
    frame: pl.DataFrame, vocabulary: Vocabulary
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64], int, int]:
    """Owners, items and scores as in ``RecommendationLists``, and the numbers of unknown and of repeated items."""
    columns = [name for name in (ITEMS, SCORES) if name in frame.columns]
    flat = frame.select(columns).with_row_index(_ROW).filter(pl.col(ITEMS).list.len() > 0).explode(columns)
    owners = flat[_ROW].to_numpy().astype(np.int64)
    items = _indices(flat[ITEMS], vocabulary)
    known = items != PADDING
    scores = flat[SCORES].to_numpy().astype(np.float64) if SCORES in columns else None
    owners, items, scores = owners[known], items[known], None if scores is None else scores[known]
    if scores is not None:
        order = np.lexsort((-scores, owners))  # stable: equal scores stay in the order of the list
        owners, items, scores = owners[order], items[order], scores[order]
    _, first = np.unique(owners * (len(vocabulary) + 1) + items, return_index=True)
    first.sort()
    owners, items = owners[first], items[first]
    scores = -np.log(ranks(owners)) if scores is None else scores[first]
    unknown = int((~known).sum())
    return owners, items, scores, unknown, len(known) - unknown - len(first)


def _indices(item_ids: pl.Series, vocabulary: Vocabulary) -> NDArray[np.int32]:
    """Item index of each id, 0 for one that is unknown or null. int32 [n]."""
    known: Sequence[str] = vocabulary.item_ids
    stripped = item_ids.str.strip_chars()
    indices = stripped.replace_strict(known, list(range(1, len(known) + 1)), default=PADDING, return_dtype=pl.Int32)
    return indices.fill_null(PADDING).to_numpy()


def ranks(owners: NDArray[np.int64]) -> NDArray[np.float64]:
    """Place of each entry in its list, from 1. int64 [E], in rising order -> float64 [E]."""
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    lengths = np.diff(starts, append=len(owners))
    return np.arange(1, len(owners) + 1, dtype=np.float64) - np.repeat(starts, lengths)
