"""Readers of your own interactions, catalogue and users; error messages name file, column and row."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from distilrec.config import DataConfig, FeatureConfig, InteractionColumns, ItemColumns, UserColumns
from distilrec.core.errors import DataError, DataWarning
from distilrec.data.attributes import UNKNOWN
from distilrec.data.files import ROW, FileTable, read_table, shown

_ISO_8601 = r"^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(?::(\d{2}(?:[.,]\d+)?))?(Z|[+-]\d{2}:?\d{2})?)?$"
"""Date, hours and minutes, seconds, zone."""
_FEATURE = "feature "
"""Before the names of feature columns, which may be those of other columns."""
_MOST_VALUES = 1000
"""Values of a category that one item may have."""
_SECONDS = {"ms": 1e3, "us": 1e6, "ns": 1e9}
"""Ticks of a second by time unit."""


def read_interactions(path: Path, config: DataConfig) -> pl.DataFrame:
    """Interactions with the columns user_id (str), item_id (str), timestamp (float64), in order of time.

    Rows without an id and repeated rows are dropped with a counted :class:`DataWarning`.

    Raises:
        DataError: The file cannot be read, lacks a column, has a timestamp that cannot be parsed, or has no row to keep.
    """
    table = read_table(path, _wanted(config.columns, config))
    frame = _drop_rows_without_id(table, ("user_id", "item_id"))
    frame = frame.with_columns(_parse_timestamps(table, frame))
    if config.events is not None:
        frame = frame.filter(_texts(table, frame, "event").is_in(config.events))
    if config.min_rating is not None:
        frame = frame.filter(_parse_numbers(table, frame, "rating") >= config.min_rating)
    frame = _drop_duplicates(table, frame, ("user_id", "item_id", "timestamp"), "repeated interaction(s)")
    if frame.is_empty():
        kept = f" after keeping events {list(config.events)}" if config.events else ""
        kept += f" after keeping ratings >= {config.min_rating}" if config.min_rating is not None else ""
        raise DataError(f"{path}: found no interaction{kept}, expected at least one")
    # maintain_order: interactions of the same moment stay in the order of the file.
    return frame.sort("timestamp", maintain_order=True).select("user_id", "item_id", "timestamp")


def read_items(path: Path, columns: ItemColumns, features: FeatureConfig | None = None) -> pl.DataFrame:
    """Catalogue with the columns item_id (str) and title (str or null where the file has none), and those of ``features``.

    Categories are lists of text, numbers float64 or null where there is none, texts text or null.

    Raises:
        DataError: The file cannot be read, lacks a column, or has a value of another type.
    """
    features = features or FeatureConfig()
    named = {_FEATURE + name: name for name in features.columns}
    table = read_table(path, {"item_id": columns.item_id, "title": columns.title} | named)
    frame = _drop_rows_without_id(table, ("item_id",))
    frame = _drop_duplicates(table, frame, ("item_id",), "repeated item(s)")
    frame = frame.with_columns(_texts(table, frame, "title"))
    _warn_counted(table, frame.filter(pl.col("title").is_null()), "title", "item(s) without text; the id stands in for the title")
    return frame.select("item_id", "title", *_features(table, frame, features))


def read_users(path: Path, columns: UserColumns, attributes: Sequence[str]) -> pl.DataFrame:
    """Users with the columns user_id (str) and one for each attribute (str, "unknown" where the file has no value).

    Raises:
        DataError: The file cannot be read, lacks a column, or has an attribute that is neither text nor a number.
    """
    table = read_table(path, {"user_id": columns.user_id} | {name: name for name in attributes})
    frame = _drop_rows_without_id(table, ("user_id",))
    frame = _drop_duplicates(table, frame, ("user_id",), "repeated user(s)")
    for name in attributes:
        frame = frame.with_columns(_texts(table, frame, name))
        _warn_counted(table, frame.filter(pl.col(name).is_null()), name, f"user(s) without a value; it counts as {UNKNOWN!r}")
    return frame.select("user_id", *(pl.col(name).fill_null(UNKNOWN) for name in attributes))


def _features(table: FileTable, frame: pl.DataFrame, features: FeatureConfig) -> list[pl.Series]:
    """Columns of features under their own names."""
    found = [_values(table, frame, name, features.separator) for name in features.categories]
    found += [_numbers_or_null(table, frame, _FEATURE + name) for name in features.numbers]
    found += [_texts(table, frame, _FEATURE + name) for name in features.texts]
    folder = str(table.path.parent.absolute())
    for name in features.pictures:
        paths = _texts(table, frame, _FEATURE + name)
        found.append(paths.map_elements(lambda path: os.path.join(folder, path), pl.String).alias(_FEATURE + name))  # noqa: PTH118
    return [values.alias(values.name.removeprefix(_FEATURE)) for values in found]


def _values(table: FileTable, frame: pl.DataFrame, name: str, separator: str | None) -> pl.Series:
    """Values of a category as lists of text, empty where there is none."""
    column = _FEATURE + name
    values = frame[column]
    dtype = values.dtype
    if isinstance(dtype, pl.List | pl.Array):
        if dtype.inner is None or dtype.inner.is_nested():
            _fail_at(table, frame, pl.Series([True]), column, found=str(dtype), expected="text, numbers, or lists of them")
        lists = values.cast(pl.List(pl.String))
    elif separator is None:
        lists = _texts(table, frame, column).reshape((-1, 1)).arr.to_list()
    else:
        lists = _texts(table, frame, column).str.split(separator)
    too_long = lists.list.len() > _MOST_VALUES
    _fail_at(table, frame, too_long.fill_null(value=False), column, expected=f"at most {_MOST_VALUES:,} values of an item")
    # Whole numbers that became floats, because some are missing, are the same values.
    plain = lists.list.eval(pl.element().str.strip_chars().str.replace(r"^(-?\d+)\.0$", "$1").replace("", None).drop_nulls())
    return plain.fill_null(pl.Series([[]], dtype=pl.List(pl.String))).alias(column)


def _numbers_or_null(table: FileTable, frame: pl.DataFrame, name: str) -> pl.Series:
    """A column of numbers as float64, null where there is none (an empty text or NaN)."""
    values = frame[name]
    if not (values.dtype.is_numeric() or values.dtype in (pl.String, pl.Null)):
        _fail_at(table, frame, pl.Series([True]), name, found=str(values.dtype), expected="a number, or nothing")
    if values.dtype == pl.String:
        values = values.str.strip_chars().replace("", None)
    parsed = values.cast(pl.Float64, strict=False)
    _fail_at(table, frame, (parsed.is_null() & values.is_not_null()) | parsed.is_infinite(), name, expected="a number, or nothing")
    return parsed.fill_nan(None)


def _wanted(columns: InteractionColumns, config: DataConfig) -> dict[str, str]:
    wanted = {"user_id": columns.user_id, "item_id": columns.item_id, "timestamp": columns.timestamp}
    if config.events is not None:
        wanted["event"] = columns.event or "event"
    if config.min_rating is not None:
        wanted["rating"] = columns.rating or "rating"
    return wanted


def _drop_rows_without_id(table: FileTable, ids: tuple[str, ...]) -> pl.DataFrame:
    frame = table.frame
    for name in ids:
        frame = frame.with_columns(id_texts(table, frame, name))
        _warn_counted(table, frame.filter(pl.col(name).is_null()), name, "row(s) without an id; dropped")
        frame = frame.filter(pl.col(name).is_not_null())
    return frame


def _drop_duplicates(table: FileTable, frame: pl.DataFrame, by: tuple[str, ...], what: str) -> pl.DataFrame:
    kept = frame.unique(by, keep="first", maintain_order=True)
    _warn_counted(table, frame.join(kept, on=ROW, how="anti"), by, f"{what}; the first of each is kept")
    return kept


def id_texts(table: FileTable, frame: pl.DataFrame, name: str) -> pl.Series:
    """Ids as stripped text, null where there is none."""
    dtype = frame[name].dtype
    if dtype == pl.Boolean or dtype.is_temporal() or (dtype.is_numeric() and not dtype.is_integer()):
        _fail_at(
            table,
            frame,
            pl.Series([True]),
            name,
            found=str(dtype),
            expected="text or whole numbers. Write the ids as they are elsewhere",
        )
    texts = _texts(table, frame, name)
    if table.is_text:
        broken = texts.str.contains(r"[\r\n]")
        _fail_at(table, frame, broken, name, expected="an id on one line. Look for a single quote in this row or the one before")
    return texts


def _texts(table: FileTable, frame: pl.DataFrame, name: str) -> pl.Series:
    """A column of text or numbers as stripped text, null where there is none."""
    values = frame[name]
    dtype = values.dtype
    if dtype.is_nested() or dtype in (pl.Duration, pl.Object):
        _fail_at(table, frame, pl.Series([True]), name, found=str(dtype), expected="text or numbers")
    texts = pl.Series(name, map(_decoded, values), pl.String) if dtype == pl.Binary else values.cast(pl.String)
    _fail_at(table, frame, texts.is_null() & values.is_not_null(), name, expected="text in UTF-8")
    _fail_at(table, frame, texts.str.contains("\0", literal=True), name, expected="text without NUL. Write the file again")
    return texts.str.strip_chars().replace("", None)


def _decoded(value: bytes | None) -> str | None:
    """Text in UTF-8, null where it is none."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _parse_timestamps(table: FileTable, frame: pl.DataFrame) -> pl.Series:
    """Numbers unchanged, dates and times as seconds since 1970 (UTC where no zone is given)."""
    values = frame["timestamp"]
    expected = "a number or an ISO 8601 date and time, as 2024-05-01T10:00:00Z"
    dtype = values.dtype
    if isinstance(dtype, pl.Datetime):
        parsed = values.to_physical().cast(pl.Float64) / _SECONDS[dtype.time_unit]
    elif dtype == pl.Date:
        parsed = values.to_physical().cast(pl.Float64) * 86_400
    elif dtype.is_numeric():
        parsed = values.cast(pl.Float64)
    elif dtype.is_nested() or dtype.is_temporal() or dtype in (pl.Boolean, pl.Binary):
        _fail_at(table, frame, pl.Series([True]), "timestamp", found=str(dtype), expected=expected)
    else:
        text = values.cast(pl.String).str.strip_chars()
        parsed = text.cast(pl.Float64, strict=False)
        if parsed.null_count():
            numbers, times = parsed.is_not_null(), _seconds(text)
            if numbers.any() and times.is_not_null().any():
                other = times.is_not_null() if numbers[0] else numbers
                _fail_at(table, frame, other, "timestamp", expected="numbers in all rows or ISO 8601 in all rows, not both")
            parsed = parsed.fill_null(times)
    _fail_at(table, frame, parsed.is_null() | ~parsed.is_finite(), "timestamp", expected=expected)
    return parsed.alias("timestamp")


def _seconds(text: pl.Series) -> pl.Series:
    """Seconds since 1970 (float64) of dates and times in ISO 8601, null for other text."""
    date, minutes, seconds, zone = (text.str.extract(_ISO_8601, group) for group in range(1, 5))
    moment = (date + " " + minutes.fill_null("00:00")).str.to_datetime("%Y-%m-%d %H:%M", time_unit="us", strict=False)
    within = seconds.str.replace(",", ".", literal=True).cast(pl.Float64).fill_null(0.0)
    hours_of_zone = zone.str.slice(1, 2).cast(pl.Float64, strict=False).fill_null(0.0)
    minutes_of_zone = zone.str.slice(-2).cast(pl.Float64, strict=False).fill_null(0.0)
    east = (hours_of_zone * 3600 + minutes_of_zone * 60) * zone.str.starts_with("-").fill_null(value=False).replace_strict(
        {True: -1.0, False: 1.0}, return_dtype=pl.Float64
    )
    valid = (within < 60) & (hours_of_zone < 24) & (minutes_of_zone < 60)
    parsed = moment.dt.epoch("s").cast(pl.Float64) + within - east
    return parsed.set(~valid, None)


def _parse_numbers(table: FileTable, frame: pl.DataFrame, name: str) -> pl.Series:
    values = frame[name]
    if not (values.dtype.is_numeric() or values.dtype in (pl.String, pl.Null)):
        _fail_at(table, frame, pl.Series([True]), name, found=str(values.dtype), expected="a number")
    parsed = values.cast(pl.Float64, strict=False)
    _fail_at(table, frame, parsed.is_null() | ~parsed.is_finite(), name, expected="a number")
    return parsed


def _fail_at(
    table: FileTable, frame: pl.DataFrame, faulty: pl.Series, name: str, *, found: str | None = None, expected: str
) -> None:
    """Raise a DataError if rows are faulty.

    Args:
        table: File of the rows.
        frame: Rows.
        faulty: Whether each row is faulty, bool [rows]; one value if the type of the column is.
        name: Standard name of the column.
        found: Type that was found; None to show the value of the first faulty row.
        expected: Words for what was expected.
    """
    if not faulty.any():
        return
    rows = frame.filter(faulty) if found is None else frame
    row = f", row {rows.item(0, ROW)}" if len(rows) else ""
    raise DataError(
        f"{table.path}: column {table.columns[name]!r}{row}: found {found or shown(rows.item(0, name))}, expected {expected}"
        f" ({len(rows)} row(s) like this)"
    )


def _warn_counted(table: FileTable, rows: pl.DataFrame, names: str | tuple[str, ...], what: str) -> None:
    if rows.is_empty():
        return
    columns = ", ".join(repr(table.columns[name]) for name in ([names] if isinstance(names, str) else names))
    message = f"{table.path}: column {columns}: {len(rows)} {what} (first: row {rows.item(0, ROW)})"
    warnings.warn(message, DataWarning, stacklevel=2)
