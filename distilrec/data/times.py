"""Dates and times in the forms that logs have, as seconds since 1970."""

from typing import Literal, NamedTuple

import polars as pl

DateOrder = Literal["auto", "day_first", "month_first"]
"""What 02/01/2024 means. ``auto``: what the other rows of the column show, where one of them has a number above 12."""

EXAMPLES = "2024-05-01T10:00:00Z, 2024-05-01 10:00:00 UTC, 01.05.2024 10:00 or 1 May 2024"

_TIME = r"(?:(?:[T:]|,? +)(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}(?:[.,]\d+)?))?(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?"
_ZONE = r" *(?P<zone>Z|(?:UTC|GMT)(?:[+-]\d{1,2}(?::?\d{2})?)?|[+-]\d{2}(?::?\d{2})?)?(?: \([^()]*\))?)?"
_WEEKDAY = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? +)?"
_NAME = r"(?P<month>[A-Za-z]{3,9})\.?"
_FORMS = (
    r"(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})",
    r"(?P<year>\d{4})/(?P<month>\d{1,2})/(?P<day>\d{1,2})",
    r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})",
    _WEEKDAY + r"(?P<day>\d{1,2})[ /-]" + _NAME + r"[ /-](?P<year>\d{4})",
    _WEEKDAY + _NAME + r" +(?P<day>\d{1,2}),? +(?P<year>\d{4})",
)
"""Dates that can be read in one way alone."""
_SHORT = (r"(?P<first>\d{1,2})/(?P<other>\d{1,2})/(?P<year>\d{4})", r"(?P<first>\d{1,2})-(?P<other>\d{1,2})-(?P<year>\d{4})")
"""Day and month, or month and day."""
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


class Times(NamedTuple):
    """Parsed times of a column."""

    seconds: pl.Series
    """float64 [rows]: seconds since 1970, null for text that is no time."""
    zoned: pl.Series
    """bool [rows]: whether the text names a zone; without one a time is UTC."""
    day_first: pl.Series
    """bool [rows]: whether it is a date such as 13/01/2024, whose first number can only be the day."""
    month_first: pl.Series
    """bool [rows]: whether it is a date such as 01/13/2024."""
    either: pl.Series
    """bool [rows]: whether it is a date such as 02/01/2024, which can be read in both ways."""


def parse_times(text: pl.Series, order: DateOrder = "auto") -> Times:
    """Read dates and times.

    Args:
        text: Stripped text, str [rows].
        order: What dates such as 02/01/2024 mean. Where ``auto`` cannot know it, they are null in ``seconds``.
    """
    frame = text.rename("text").to_frame().with_columns(seconds=pl.lit(None, pl.Float64), zoned=pl.lit(value=False))
    for form in _FORMS:
        frame = _fill(frame, form)
    short = frame["seconds"].is_null()
    first, other = (_short_number(frame["text"], short, name) for name in ("first", "other"))
    day_first, month_first = (
        ((first > 12) & (other <= 12)).fill_null(value=False),
        ((other > 12) & (first <= 12)).fill_null(value=False),
    )
    either = ((first <= 12) & (other <= 12)).fill_null(value=False)
    if order == "auto" and bool(day_first.any()) != bool(month_first.any()):
        order = "day_first" if day_first.any() else "month_first"
    for form in _SHORT if order != "auto" else ():
        day, month = ("first", "other") if order == "day_first" else ("other", "first")
        frame = _fill(frame, form.replace(f"<{day}>", "<day>").replace(f"<{month}>", "<month>"))
    return Times(frame["seconds"], frame["zoned"], day_first, month_first, either)


def _short_number(text: pl.Series, rows: pl.Series, name: str) -> pl.Series:
    """A number of dates such as 02/01/2024, int64 [rows]; null elsewhere."""
    if not rows.any():
        return pl.Series(name, [None] * len(text), pl.Int64)
    found = [_groups(text, form).struct.field(name).cast(pl.Int64, strict=False) for form in _SHORT]
    return pl.select(pl.when(rows).then(pl.coalesce(*found))).to_series()


def _groups(text: pl.Series, form: str) -> pl.Series:
    """Parts of the text in this form, a struct of str [rows]; all null for another form."""
    return text.str.extract_groups(f"^{form}{_TIME}{_ZONE}$")


def _fill(frame: pl.DataFrame, form: str) -> pl.DataFrame:
    """Fill in the seconds of the rows that have none yet and are of this form."""
    if not frame["seconds"].null_count():
        return frame
    open_rows = frame.select(pl.when(pl.col("seconds").is_null()).then("text")).to_series()
    if not open_rows.str.contains(f"^{form}").any():
        return frame
    parts = _groups(open_rows, form).struct.unnest()
    seconds = parts.select(_seconds()).to_series()
    return frame.with_columns(
        seconds=pl.coalesce("seconds", seconds), zoned=pl.col("zoned") | (seconds.is_not_null() & parts["zone"].is_not_null())
    )


def _seconds() -> pl.Expr:
    """Seconds since 1970 of the parts of a date and a time, float64; null where they are none, such as 30 February."""
    named = pl.col("month").str.head(3).str.to_lowercase().replace_strict(_MONTHS, range(1, 13), default=None)
    month = pl.coalesce(pl.col("month").cast(pl.Int64, strict=False), named).cast(pl.String).str.zfill(2)
    date = pl.concat_str("year", month, pl.col("day").str.zfill(2), separator="-").str.to_date("%Y-%m-%d", strict=False)
    hour, minute = (pl.col(name).cast(pl.Float64).fill_null(0.0) for name in ("hour", "minute"))
    second = pl.col("second").str.replace(",", ".", literal=True).cast(pl.Float64).fill_null(0.0)
    half = pl.col("half").str.to_lowercase()
    hour_of_day = pl.when(half.is_null()).then(hour).otherwise(hour % 12 + 12 * (half == "p"))
    east = _seconds_east()
    valid = (hour_of_day < 24) & (minute < 60) & (second < 60) & (half.is_null() | hour.is_between(1, 12)) & (east.abs() < 86_400)
    moment = date.cast(pl.Int64) * 86_400.0 + hour_of_day * 3600 + minute * 60 + second - east
    return pl.when(valid).then(moment)


def _seconds_east() -> pl.Expr:
    """Seconds by which a zone such as UTC+02:30 is ahead of UTC; a day for a zone with more than 59 minutes."""
    offset = pl.col("zone").str.extract(r"([+-]\d{1,2}(?::?\d{2})?)$")
    hours = offset.str.extract(r"^[+-](\d{1,2}?)(?::?\d{2})?$").cast(pl.Float64).fill_null(0.0)
    minutes = offset.str.extract(r"^[+-]\d{1,2}?:?(\d{2})$").cast(pl.Float64).fill_null(0.0)
    return (
        pl.when(minutes < 60)
        .then((hours * 3600 + minutes * 60) * pl.when(offset.str.starts_with("-")).then(-1.0).otherwise(1.0))
        .otherwise(86_400.0)
    )
