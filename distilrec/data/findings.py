"""What the data stage found in your files, in words: counts, and choices that look wrong."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from distilrec.config import Config, DataConfig, spec_of_run
from distilrec.core.printable import printable
from distilrec.data import splits
from distilrec.data.dataset import Dataset, Split, answers, older_items
from distilrec.data.events import list_events
from distilrec.data.files import shown
from distilrec.data.sizes import with_sizes
from distilrec.data.vocabulary import Vocabulary

_FEW_USERS = 300
"""With fewer judged users, differences between models are mostly chance."""
_MANY_DROPPED, _MANY_REPEATS, _LONG_GAP, _MOST = 0.5, 0.05, 0.2, 0.5
_FEW_MOMENTS = 200
"""With fewer different times, gaps say nothing."""
_UNITS = {1.0: (1e8, 1e10), 1e3: (1e11, 1e13), 1e6: (1e14, 1e16), 1e9: (1e17, 1e19)}
"""Times since 1970 that are plausible, by the number of ticks in a second."""


@dataclass(frozen=True)
class Findings:
    """Counts of the interactions that were read, and of those that are left."""

    users_read: int
    items_read: int
    interactions_read: int
    """Without those that ``events``, ``min_rating`` and repeated rows leave out."""
    users: int
    items: int
    interactions: int
    median_history: int
    longest_history: int
    repeats: float
    """Share of interactions with an item that the user had before."""
    consecutive_repeats: float
    """Share of read interactions with the very item of the user's interaction before; before ``consecutive_repeats`` drops them."""
    same_moment: float
    """Share of interactions at the moment of the user's interaction before; the order of the file decides between them."""
    moments: int
    """Different times."""
    first_time: float
    last_time: float
    gap_start: float
    """Start of the longest time without any interaction."""
    gap_end: float
    judged_validation: int
    """Users with a history and something new in the validation part."""
    judged_test: int
    judged_otherwise: int
    """Fewest judged users of both parts with the other kind of split."""
    titled: int
    """Items whose title is not their id."""


def find(read: pl.DataFrame, kept: pl.DataFrame, dataset: Dataset, vocabulary: Vocabulary, config: DataConfig) -> Findings:
    """Count.

    Args:
        read: Interactions before ``consecutive_repeats``, ``max_users`` and ``k_core``: user_id, item_id, timestamp, by time.
        kept: Interactions of the data set, users one after another.
        dataset: Its sequences and splits.
        vocabulary: Its items.
        config: Section ``data``.
    """
    lengths = np.diff(dataset.offsets)
    times = np.sort(kept["timestamp"].to_numpy())
    gap = int(np.argmax(np.diff(times))) if len(times) > 1 else 0
    same = kept.select((pl.col("timestamp") == pl.col("timestamp").shift(1).over("user_id")).sum()).item()
    judged = [judged_users(dataset, split) for split in ("validation", "test")]
    other = _other_split(dataset, kept["timestamp"].to_numpy(), config)
    return Findings(
        users_read=read["user_id"].n_unique(),
        items_read=read["item_id"].n_unique(),
        interactions_read=len(read),
        users=dataset.user_count,
        items=len(vocabulary),
        interactions=len(dataset.items),
        median_history=int(np.median(lengths)),
        longest_history=int(lengths.max()),
        repeats=1 - len(_first_positions(dataset)) / len(dataset.items),
        consecutive_repeats=float(repeats_in_a_row(read).mean()),  # type: ignore[arg-type] # of booleans
        same_moment=same / len(kept),
        moments=len(np.unique(times)),
        first_time=float(times[0]),
        last_time=float(times[-1]),
        gap_start=float(times[gap]),
        gap_end=float(times[min(gap + 1, len(times) - 1)]),
        judged_validation=judged[0],
        judged_test=judged[1],
        judged_otherwise=min(judged_users(other, "validation"), judged_users(other, "test")),
        titled=sum(title != item_id for item_id, title in zip(vocabulary.item_ids, vocabulary.titles, strict=True)),
    )


def repeats_in_a_row(interactions: pl.DataFrame) -> pl.Series:
    """Whether each interaction is of the item of the same user's former interaction, bool [interactions] in order of time."""
    same = pl.col("item_id") == pl.col("item_id").shift(1).over("user_id")
    return interactions.select(same.fill_null(value=False)).to_series()


def judged_users(dataset: Dataset, split: Split) -> int:
    """Number of users with a history before the cut of a split and an item after it that they had not seen."""
    return len(np.unique(answers(dataset, split)[0]))


def _first_positions(dataset: Dataset) -> NDArray[np.int64]:
    """Positions in ``dataset.items`` at which a user meets an item for the first time, int64 [pairs]."""
    users = np.repeat(np.arange(dataset.user_count), np.diff(dataset.offsets))
    pairs = users * (dataset.item_count + 1) + dataset.items
    first: NDArray[np.int64] = np.unique(pairs, return_index=True)[1]
    return first


def _other_split(dataset: Dataset, timestamps: NDArray[np.float64], config: DataConfig) -> Dataset:
    """The same sequences, split in the other way."""
    if config.split_kind == "temporal":
        cuts = splits.leave_one_out(np.diff(dataset.offsets))
    else:
        cuts = splits.temporal(timestamps, dataset.offsets, config.validation_fraction, config.test_fraction)
    return Dataset(dataset.items, dataset.offsets, *cuts, item_count=dataset.item_count)


def describe(found: Findings, dataset: Dataset, config: Config) -> list[str]:
    """Lines that say what was found.

    Args:
        found: Counts.
        dataset: Sequences, for what depends on the sizes of requests.
        config: Settings of the run.
    """
    length, data = config.history_length, config.data
    exclude = spec_of_run(with_sizes(config, dataset), dataset.item_count).exclude_length
    exceeding = int((older_items(dataset, length) > exclude).sum())
    chosen = "follows from the longest history" if config.export.exclude_length == "auto" else "is set"
    over = (
        f"{exceeding:,} users have seen more than a request can name" if exceeding else "every user's history fits into a request"
    )
    longer = int((np.diff(dataset.offsets) > length).sum())
    lines = [
        f"{found.users:,} of {found.users_read:,} users, {found.items:,} of {found.items_read:,} items and {found.interactions:,}"
        f" of {found.interactions_read:,} interactions are left after k_core = {data.k_core}{_limit(data)}",
        f"histories have {found.median_history:,} items (median) to {found.longest_history:,} (longest); {longer:,} users have more"
        f" than history_length = {length}",
        f"exclude_length = {exclude:,} {chosen}: {over}",
        f"{_percent(found.repeats)} of the interactions repeat an item of the same user,"
        f" {_percent(found.consecutive_repeats)} of the read ones the very item before"
        f"{' (dropped)' if data.consecutive_repeats == 'drop' else ''}",
        _describe_times(found),
        f"models are judged by {found.judged_validation:,} users (validation) and {found.judged_test:,} (test) of {found.users:,},"
        f" split = {data.split_kind}",
    ]
    named = data.items is not None or data.source is not None
    titles = f"{found.titled:,} of {found.items:,} items have a title" if named else "items have no titles (data.items is not set)"
    return [*lines, titles]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _limit(data: DataConfig) -> str:
    return "" if data.max_users is None else f" and max_users = {data.max_users:,}"


def _describe_times(found: Findings) -> str:
    times = f"times run from {_moment(found.first_time, found)} to {_moment(found.last_time, found)}"
    gap = f"the longest gap is {_span(found)} from {_moment(found.gap_start, found)} on"
    return f"{times}; {gap}; {_percent(found.same_moment)} of the interactions share the moment of the one before"


def _ticks(found: Findings) -> float | None:
    """Ticks of a second, where the times look like times since 1970."""
    fits = (ticks for ticks, (low, high) in _UNITS.items() if low <= found.first_time and found.last_time < high)
    return next(fits, None)


def _moment(time: float, found: Findings) -> str:
    ticks = _ticks(found)
    return f"{time:.0f}" if ticks is None else dt.datetime.fromtimestamp(time / ticks, dt.UTC).strftime("%Y-%m-%d %H:%M")


def _span(found: Findings) -> str:
    gap, ticks = found.gap_end - found.gap_start, _ticks(found)
    if ticks is None:
        return f"{gap:.0f}"
    seconds = gap / ticks
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def doubts(
    found: Findings, config: DataConfig, unselected: tuple[str, dict[str, int]] | None, item_ids: Sequence[str]
) -> list[str]:
    """Choices that look wrong, each with what to do about it.

    Args:
        found: Counts.
        config: Section ``data``.
        unselected: Column of events that nothing selects by, and the number of rows of each event, where there is one.
        item_ids: An item id of the interactions and one of the catalogue, to show how both are written.
    """
    said = [*_doubts_of_filters(found, config), *_doubts_of_split(found, config)]
    if unselected is not None:
        column, events = printable(unselected[0]), unselected[1]
        some = ", ".join(f'"{printable(name)}"' for name in list(events)[1:3])
        said.append(
            f"column {column!r} says what each interaction was ({list_events(events)}), and all count alike. To keep only some:"
            f' events = [{some}] and columns = {{ event = "{column}" }} in section [data]'
        )
    gap, span = found.gap_end - found.gap_start, found.last_time - found.first_time
    if gap > _LONG_GAP * span and found.moments >= _FEW_MOMENTS:
        said.append(
            f"nothing happened for {_percent(gap / span)} of the time ({_span(found)} from {_moment(found.gap_start, found)} on)."
            " Is a part of the log missing?"
        )
    if config.items is not None and found.titled < _MOST * found.items:
        said.append(
            f"{found.titled:,} of {found.items:,} items have a title in {config.items}; for the others the id stands in, and models"
            " that read titles read ids. Ids are compared as text, so both files must write them alike (found"
            f" {' and '.join(map(shown, item_ids))})"
        )
    return said


def _doubts_of_filters(found: Findings, config: DataConfig) -> list[str]:
    said = []
    users, items = 1 - found.users / found.users_read, 1 - found.items / found.items_read
    if max(users, items) > _MANY_DROPPED and config.max_users is None:
        said.append(
            f"k_core = {config.k_core} drops {_percent(users)} of the users and {_percent(items)} of the items; such items are"
            " never recommended. A lower data.k_core keeps more"
        )
    if found.consecutive_repeats > _MANY_REPEATS and config.consecutive_repeats == "keep":
        said.append(
            f"{_percent(found.consecutive_repeats)} of the interactions are of the very item before, as when a page is loaded"
            ' again; models learn little from them. consecutive_repeats = "drop" in section [data] keeps the first of each'
        )
    return said


def _doubts_of_split(found: Findings, config: DataConfig) -> list[str]:
    fewest = min(found.judged_validation, found.judged_test)
    if fewest >= _FEW_USERS or config.max_users is not None:
        return []
    other = "leave_one_out" if config.split_kind == "temporal" else "temporal"
    said = f"split = {config.split_kind} leaves {fewest:,} of {found.users:,} users to judge models by"
    if found.judged_otherwise > 1.5 * fewest:
        return [f'{said}. split = "{other}" in section [data] would leave {found.judged_otherwise:,}']
    return [f"{said}, so that small differences between models are chance. More data would help, or a lower data.k_core"]


def from_metrics(metrics: Mapping[str, Any]) -> Findings:
    """The findings in the metrics of the data stage's manifest."""
    return Findings(**metrics["found"])
