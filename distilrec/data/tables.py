"""Readers of your own interactions, catalogue and users; error messages name file, column and row."""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from distilrec.config import DataConfig, FeatureConfig, FilterColumn, InteractionColumns, ItemColumns, UserColumns
from distilrec.core.errors import DataError, DataWarning
from distilrec.data.attributes import UNKNOWN
from distilrec.data.events import check_events
from distilrec.data.files import ROW, FileTable, read_table, shown
from distilrec.data.times import EXAMPLES, DateOrder, Times, parse_times

_TIME = f"a number or a date with a year of four digits, as {EXAMPLES}"
_FIRST_SECOND, _FIRST_MILLISECOND = 1e8, 1e11
"""Smallest times since 1970 that are plausible in these units (3 March 1973)."""
_ATTRIBUTE = "attribute "
"""Beginning of the standard names of item attributes, which are none of the others."""
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
    frame = frame.with_columns(_parse_timestamps(table, frame, config.date_order))
    if config.events is not None:
        events = _texts(table, frame, "event")
        check_events(table, events, config.events)
        frame = frame.filter(events.is_in(list(config.events)))
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


def read_item_values(path: Path, columns: ItemColumns, wanted: Mapping[str, FilterColumn]) -> pl.DataFrame:
    """Catalogue with the columns item_id (str) and one for each attribute: lists of different values as text, empty for none.

    Rows without an id and repeated items are dropped without a warning: ``read_items`` warns of them.

    Raises:
        DataError: The file cannot be read, lacks a column, or has an attribute that is neither text, numbers nor lists of them.
    """
    places = {name: f"{_ATTRIBUTE}{place}" for place, name in enumerate(wanted)}
    files = {places[name]: attribute.column or name for name, attribute in wanted.items()}
    table = read_table(path, {"item_id": columns.item_id} | files)
    frame = table.frame.with_columns(id_texts(table, table.frame, "item_id"))
    frame = frame.filter(pl.col("item_id").is_not_null()).unique("item_id", keep="first", maintain_order=True)
    return frame.select("item_id", *(_lists(table, frame, places[name], wanted[name]).alias(name) for name in wanted))


def _lists(table: FileTable, frame: pl.DataFrame, name: str, attribute: FilterColumn) -> pl.Series:
    """The different values of an attribute, stripped text in their order, list[str]."""
    values = frame[name]
    if isinstance(values.dtype, pl.List):
        inner = values.dtype.inner
        if inner.is_nested() or inner in (pl.Object, pl.Binary, pl.Duration):
            _fail_at(table, frame, pl.Series([True]), name, found=str(values.dtype), expected="lists of text or numbers")
        lists = values.cast(pl.List(pl.String))
    else:
        texts = _texts(table, frame, name)
        lists = texts.str.split(attribute.separator) if attribute.separator else texts.reshape((-1, 1)).arr.to_list()
    stripped = lists.fill_null([]).list.eval(pl.element().str.strip_chars())
    return stripped.list.eval(pl.element().filter(pl.element().is_not_null() & (pl.element() != "")).unique(maintain_order=True))


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


def _parse_timestamps(table: FileTable, frame: pl.DataFrame, order: DateOrder) -> pl.Series:
    """Numbers unchanged, dates and times as seconds since 1970 (UTC where no zone is given)."""
    values = frame["timestamp"]
    dtype = values.dtype
    if isinstance(dtype, pl.Datetime):
        parsed = values.to_physical().cast(pl.Float64) / _SECONDS[dtype.time_unit]
    elif dtype == pl.Date:
        parsed = values.to_physical().cast(pl.Float64) * 86_400
    elif dtype.is_numeric():
        parsed = values.cast(pl.Float64)
    elif dtype.is_nested() or dtype.is_temporal() or dtype in (pl.Boolean, pl.Binary):
        _fail_at(table, frame, pl.Series([True]), "timestamp", found=str(dtype), expected=_TIME)
    else:
        parsed = _parse_text_times(table, frame, values.cast(pl.String).str.strip_chars(), order)
    _fail_at(table, frame, parsed.is_null() | ~parsed.is_finite(), "timestamp", expected=_TIME)
    _warn_units(table, frame, parsed)
    return parsed.alias("timestamp")


def _warn_units(table: FileTable, frame: pl.DataFrame, numbers: pl.Series) -> None:
    """Warn of times in seconds next to times in milliseconds: by their size, all of the latter would come last."""
    if len(numbers) and numbers.min() > _FIRST_SECOND:  # type: ignore[operator] # float64
        larger = (numbers >= _FIRST_MILLISECOND) & (numbers.min() < _FIRST_MILLISECOND)  # type: ignore[operator]
        what = "number(s) a thousand times as large as others, such as milliseconds among seconds; they count as the latest"
        _warn_counted(table, frame.filter(larger), "timestamp", what)


def _parse_text_times(table: FileTable, frame: pl.DataFrame, text: pl.Series, order: DateOrder) -> pl.Series:
    """Text as numbers, or as dates and times."""
    numbers = text.cast(pl.Float64, strict=False)
    if not numbers.null_count():
        return numbers
    times = parse_times(text, order)
    dates, are_numbers = times.seconds.is_not_null() | times.either, numbers.is_not_null()
    if are_numbers.any() and dates.any():
        fewer = dates if dates.sum() <= are_numbers.sum() else are_numbers
        counts = f"{dates.sum()} row(s) with a date and {are_numbers.sum()} with a number"
        _fail_at(table, frame, fewer, "timestamp", expected=f"numbers in all rows or dates in all rows, but there are {counts}")
    _check_order(table, frame, times, order)
    without_zone = times.seconds.is_not_null() & ~times.zoned
    if times.zoned.any():
        what = f"date(s) without a zone, among {times.zoned.sum()} with one; they count as UTC"
        _warn_counted(table, frame.filter(without_zone), "timestamp", what)
    return numbers.fill_null(times.seconds)


def _check_order(table: FileTable, frame: pl.DataFrame, times: Times, order: DateOrder) -> None:
    """Refuse dates such as 02/01/2024 where neither the settings nor the other rows say what they mean."""
    if order != "auto":
        return
    setting = 'Set data.date_order to "day_first" or "month_first"'
    if times.day_first.any() and times.month_first.any():
        other = frame.filter(times.month_first)
        expected = (
            f"one order of day and month, but row {other.item(0, ROW)} has {shown(other.item(0, 'timestamp'))}. {setting}, or"
        )
        _fail_at(table, frame, times.day_first, "timestamp", expected=f"{expected} write the dates as 2024-05-01")
    if not times.day_first.any() and not times.month_first.any():
        expected = f"to know whether the day or the month comes first, which no row of the column shows. {setting}"
        _fail_at(table, frame, times.either, "timestamp", expected=expected)


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
