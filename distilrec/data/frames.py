"""Tables of polars, pandas or Arrow in memory, written as Parquet files that the stage ``data`` reads."""

import io
from pathlib import Path
from typing import Any

import polars as pl

from distilrec.core.errors import DataError
from distilrec.core.files import replace_whole


def write_frame(frame: Any, path: Path) -> None:
    """Write a table as Parquet; a file that has this content already stays, so that a run by it has nothing to do again.

    Args:
        frame: A polars, pandas or Arrow table.
        path: The file; its folder is made.

    Raises:
        DataError: It is none of these.
    """
    buffer = io.BytesIO()
    _as_polars(frame).write_parquet(buffer)
    content = buffer.getvalue()
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_whole(path, content)


def _as_polars(frame: Any) -> pl.DataFrame:
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame
    if type(frame).__module__.partition(".")[0] == "pandas":
        # Column by column: polars would need pyarrow for the whole.
        return pl.DataFrame({str(name): _pandas_column(frame[name]) for name in frame.columns})
    if hasattr(frame, "__arrow_c_stream__"):
        return pl.DataFrame(frame)
    raise DataError(f"found a {type(frame).__name__}, expected a table of polars, pandas or Arrow, or the path of a file")


def _pandas_column(column: Any) -> pl.Series:
    if getattr(column.dtype, "tz", None) is not None:
        return pl.Series(column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()).dt.replace_time_zone("UTC")
    if column.dtype.kind in "iufbM":
        return pl.Series(column.to_numpy())
    missing = column.isna()
    return pl.Series([None if absent else value for value, absent in zip(column, missing, strict=True)], strict=False)
