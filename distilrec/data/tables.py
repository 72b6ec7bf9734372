"""Readers of your own interactions, catalogue and users; error messages name file, column and row."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from distilrec.config import DataConfig, InteractionColumns, ItemColumns, UserColumns
from distilrec.core.errors import DataError, DataWarning
from distilrec.data.attributes import UNKNOWN

_ROW = "row"
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".csv.gz": ",", ".tsv.gz": "\t"}


@dataclass(frozen=True)
class FileTable:
    """Columns of a file under their standard names, and a column ``row``: the number of the row as an editor shows it."""

    path: Path
    columns: dict[str, str]
    """Name in the file by standard name."""
    frame: pl.DataFrame


def read_interactions(path: Path, config: DataConfig) -> pl.DataFrame:
    """Interactions with the columns user_id (str), item_id (str), timestamp (float64), in order of time.

    MovieLensRows without an id and repeated rows are dropped with a counted :class:`DataWarning`.

    Raises:
        DataError: The file cannot be read, lacks a column, has a timestamp that cannot be parsed, or has no row to keep.
    """
    table = _read(path, _wanted(config.columns, config))
    frame = _drop_rows_without_id(table, ("user_id", "item_id"))
    frame = frame.with_columns(_parse_timestamps(table, frame))
    if config.events is not None:
        frame = frame.filter(pl.col("event").is_in(config.events))
    if config.min_rating is not None:
        frame = frame.filter(_parse_numbers(table, frame, "rating") >= config.min_rating)
    frame = _drop_duplicates(table, frame, ("user_id", "item_id", "timestamp"), "repeated interaction(s)")
    if frame.is_empty():
        kept = f" after keeping events {list(config.events)}" if config.events else ""
        kept += f" after keeping ratings >= {config.min_rating}" if config.min_rating is not None else ""
        raise DataError(f"{path}: found no interaction{kept}, expected at least one")
    # maintain_order: interactions of the same moment stay in the order of the file.
    return frame.sort("timestamp", maintain_order=True).select("user_id", "item_id", "timestamp")


def read_items(path: Path, columns: ItemColumns) -> pl.DataFrame:
    """Catalogue with the columns item_id (str) and title (str or null where the file has none).

    Raises:
        DataError: The file cannot be read, or lacks a column.
    """
    table = _read(path, {"item_id": columns.item_id, "title": columns.title})
    frame = _drop_rows_without_id(table, ("item_id",))
    frame = _drop_duplicates(table, frame, ("item_id",), "repeated item(s)")
    frame = frame.with_columns(pl.col("title").str.strip_chars().replace("", None))
    _warn_counted(table, frame.filter(pl.col("title").is_null()), "title", "item(s) without text; the id stands in for the title")
    return frame.select("item_id", "title")


def read_users(path: Path, columns: UserColumns, attributes: Sequence[str]) -> pl.DataFrame:
    """Users with the columns user_id (str) and one for each attribute (str, "unknown" where the file has no value).

    Raises:
        DataError: The file cannot be read, lacks a column, or has an attribute that is neither text nor a number.
    """
    table = _read(path, {"user_id": columns.user_id} | {name: name for name in attributes})
    frame = _drop_rows_without_id(table, ("user_id",))
    frame = _drop_duplicates(table, frame, ("user_id",), "repeated user(s)")
    for name in attributes:
        if frame[name].dtype.is_nested() or frame[name].dtype == pl.Binary:
            found = f"row {frame.item(0, _ROW)}: found {frame[name].dtype}" if len(frame) else f"found {frame[name].dtype}"
            raise DataError(f"{path}: column {name!r}, {found}, expected text or numbers")
        frame = frame.with_columns(pl.col(name).cast(pl.String).str.strip_chars().replace("", None))
        _warn_counted(table, frame.filter(pl.col(name).is_null()), name, f"user(s) without a value; it counts as {UNKNOWN!r}")
    return frame.select("user_id", *(pl.col(name).fill_null(UNKNOWN) for name in attributes))


def _wanted(columns: InteractionColumns, config: DataConfig) -> dict[str, str]:
    wanted = {"user_id": columns.user_id, "item_id": columns.item_id, "timestamp": columns.timestamp}
    if config.events is not None:
        wanted["event"] = columns.event or "event"
    if config.min_rating is not None:
        wanted["rating"] = columns.rating or "rating"
    return wanted


def _read(path: Path, columns: dict[str, str]) -> FileTable:
    frame = _read_file(path)
    missing = [name for name in columns.values() if name not in frame.columns]
    if missing:
        raise DataError(
            f"{path}: found columns {', '.join(frame.columns)}; expected also {', '.join(missing)}. "
            "Name your columns in [data.columns], [data.item_columns], [data.user_columns] and data.attributes."
        )
    first_row = 2 if _suffix(path) in _SEPARATORS else 1  # the header is row 1 of a text file
    selected = frame.select(pl.col(found).alias(name) for name, found in columns.items())
    return FileTable(path, columns, selected.with_row_index(_ROW, offset=first_row))


def _read_file(path: Path) -> pl.DataFrame:
    suffix = _suffix(path)
    if suffix not in {*_SEPARATORS, ".parquet"}:
        raise DataError(f"{path}: found a file of type {suffix or 'unknown'!r}, expected .csv, .tsv (also .gz) or .parquet")
    try:
        if suffix == ".parquet":
            return pl.read_parquet(path)
        return pl.read_csv(path, separator=_SEPARATORS[suffix], infer_schema=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _suffix(path: Path) -> str:
    """Suffix of a file's name; for a compressed file both suffixes, for example ".csv.gz"."""
    return "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix


def _drop_rows_without_id(table: FileTable, ids: tuple[str, ...]) -> pl.DataFrame:
    frame = table.frame.with_columns(pl.col(name).cast(pl.String).str.strip_chars().replace("", None) for name in ids)
    for name in ids:
        _warn_counted(table, frame.filter(pl.col(name).is_null()), name, "row(s) without an id; dropped")
        frame = frame.filter(pl.col(name).is_not_null())
    return frame


def _drop_duplicates(table: FileTable, frame: pl.DataFrame, by: tuple[str, ...], what: str) -> pl.DataFrame:
    kept = frame.unique(by, keep="first", maintain_order=True)
    _warn_counted(table, frame.join(kept, on=_ROW, how="anti"), by, f"{what}; the first of each is kept")
    return kept


def _parse_timestamps(table: FileTable, frame: pl.DataFrame) -> pl.Series:
    """Numbers unchanged, dates and times as seconds since 1970 (UTC where no zone is given)."""
    values = frame["timestamp"]
    if values.dtype.is_temporal():
        return values.cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64).alias("timestamp") / 1e6
    if values.dtype.is_numeric():
        parsed = values.cast(pl.Float64)
    else:
        text = values.cast(pl.String).str.strip_chars()
        parsed = text.cast(pl.Float64, strict=False)
        if parsed.null_count():
            times = text.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
            parsed = parsed.fill_null(times.dt.epoch("us").cast(pl.Float64) / 1e6)
    _fail_at_null(table, frame, parsed, "timestamp", "a number or an ISO 8601 date and time")
    return parsed.alias("timestamp")


def _parse_numbers(table: FileTable, frame: pl.DataFrame, name: str) -> pl.Series:
    parsed = frame[name].cast(pl.Float64, strict=False)
    _fail_at_null(table, frame, parsed, name, "a number")
    return parsed


def _fail_at_null(table: FileTable, frame: pl.DataFrame, parsed: pl.Series, name: str, expected: str) -> None:
    faulty = frame.filter(parsed.is_null() | parsed.is_nan() | parsed.is_infinite())
    if not faulty.is_empty():
        row = faulty.row(0, named=True)
        raise DataError(
            f"{table.path}: column {table.columns[name]!r}, row {row[_ROW]}: found {row[name]!r}, expected {expected}"
            f" ({len(faulty)} row(s) like this)"
        )


def _warn_counted(table: FileTable, rows: pl.DataFrame, names: str | tuple[str, ...], what: str) -> None:
    if rows.is_empty():
        return
    columns = ", ".join(repr(table.columns[name]) for name in ([names] if isinstance(names, str) else names))
    message = f"{table.path}: column {columns}: {len(rows)} {what} (first: row {rows.item(0, _ROW)})"
    warnings.warn(message, DataWarning, stacklevel=2)
