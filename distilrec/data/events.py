"""What each interaction was, such as a view or a purchase: events that the settings select by, or could."""

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from distilrec.config import DataConfig
from distilrec.core.errors import DataError, DataWarning
from distilrec.data.files import FileTable, column_names, read_table, shown

_NAMES = {"event", "event_type", "event_name", "eventtype", "type", "action", "behavior", "behaviour", "activity"}
"""Names of columns that look like events."""
_MOST_EVENTS, _SHOWN_EVENTS = 30, 10


def check_events(table: FileTable, events: pl.Series, wanted: Sequence[str]) -> None:
    """Name wanted events that do not occur, with those that do.

    Args:
        table: File of the events.
        events: The event of each row, str [rows].
        wanted: Events to select by.

    Raises:
        DataError: None of the wanted events occurs; where some do, the others are a warning.
    """
    found = _count(events)
    missing = [name for name in wanted if name not in found]
    if not missing:
        return
    message = (
        f"{table.path}: column {table.columns['event']!r}: found no event {', '.join(map(shown, missing))}, expected events"
        f" that occur: {list_events(found)}. Correct data.events"
    )
    if len(missing) == len(wanted):
        raise DataError(message)
    warnings.warn(message, DataWarning, stacklevel=2)


def unselected_events(path: Path, config: DataConfig) -> tuple[str, dict[str, int]] | None:
    """Column that says what each interaction was, and the number of rows of each event, where nothing selects by it.

    It is the one that the settings name, or one whose name and few values look like it; None where there is none.
    """
    if config.events is not None or config.source is not None:
        return None
    named = [config.columns.event] if config.columns.event else [name for name in column_names(path) if name.casefold() in _NAMES]
    with contextlib.suppress(DataError):  # a column that is not read may hold anything
        for name in named[:1]:
            values = read_table(path, {"event": name}).frame["event"]
            events = _count(values.cast(pl.String).str.strip_chars()) if values.dtype == pl.String else {}
            if 1 < len(events) <= _MOST_EVENTS:
                return name, events
    return None


def list_events(events: Mapping[str, int]) -> str:
    """Events with the number of their rows, as in a message."""
    more = f" and {len(events) - _SHOWN_EVENTS} more" if len(events) > _SHOWN_EVENTS else ""
    return ", ".join(f"{shown(name)} ({count:,})" for name, count in list(events.items())[:_SHOWN_EVENTS]) + more


def _count(events: pl.Series) -> dict[str, int]:
    """Number of rows of each event, the most frequent first."""
    counted = events.drop_nulls().value_counts(sort=True)
    return dict(zip(counted[events.name].to_list(), counted["count"].to_list(), strict=True))
