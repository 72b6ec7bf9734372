"""New events of a finished run: which of them count, the sequences they make, and what is left to the next update."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from distilrec.config import UpdateConfig
from distilrec.core.errors import DataError
from distilrec.core.specs import RecommenderSpec
from distilrec.data.dataset import Dataset
from distilrec.data.ragged import Ragged
from distilrec.data.update_state import Exemplars, Requests, UpdateState, choose_exemplars, choose_requests, newest, truth_of
from distilrec.data.vocabulary import Vocabulary

FEWEST_JUDGED = 20
"""Fewest users whose newest event can be held out: half of them stop the training, half give the verdict."""

MOST_UNKNOWN = 100_000
"""Events of unknown items that are kept for later, the newest ones."""


@dataclass(frozen=True)
class SortedEvents:
    """Events by what can be done with them."""

    used: pl.DataFrame
    """user_id, item_id, timestamp, in order of time: those to learn from."""
    new_items: tuple[str, ...]
    """Ids of items that get a row, in the order of their ids."""
    unknown: pl.DataFrame
    """Events of items that are in no catalogue and had too few events so far."""
    late: int
    """Number of events that are older than the last update; they are left out."""
    forgotten: int
    """Number of the oldest events of unknown items that are no longer kept."""


def sort_events(
    state: UpdateState, vocabulary: Vocabulary, events: pl.DataFrame, listed: Collection[str], min_events: int
) -> SortedEvents:
    """Take those events that can be learned from.

    Args:
        state: What the update before left.
        vocabulary: Items so far.
        events: New events, in order of time.
        listed: Ids of the items in the catalogue.
        min_events: Events after which an item that is in no catalogue gets a row.

    Raises:
        DataError: All events are older than the last update, or none of their items is known.
    """
    fresh = events.filter(pl.col("timestamp") >= state.last_time)
    if fresh.is_empty():
        raise DataError(
            f"found {len(events):,} events, the newest of them at {events['timestamp'].max()!r}, older than the last event that was"
            f" learned from, at {state.last_time!r}; expected newer ones. Give the events since then"
        )
    together = pl.concat([state.later, fresh]).sort("timestamp", maintain_order=True)
    counts = together.group_by("item_id").len()
    enough = set(counts.filter(pl.col("len") >= min_events)["item_id"])
    unknown = [item_id for item_id in counts["item_id"] if item_id not in vocabulary]
    new = sorted(item_id for item_id in unknown if item_id in listed or item_id in enough)
    waiting = pl.Series(sorted(set(unknown).difference(new)), dtype=pl.String).implode()
    used, later = (
        together.filter(is_waiting) for is_waiting in (~pl.col("item_id").is_in(waiting), pl.col("item_id").is_in(waiting))
    )
    if fresh.filter(~pl.col("item_id").is_in(waiting)).is_empty():
        raise DataError(
            f"found {len(later):,} events of unknown items alone (the first: {later['item_id'][0]!r}), expected"
            f" events of the run's {len(vocabulary):,} items. Is it another shop's file, or are its ids written otherwise?"
        )
    return SortedEvents(used, tuple(new), later.tail(MOST_UNKNOWN), len(events) - len(fresh), max(len(later) - MOST_UNKNOWN, 0))


@dataclass(frozen=True)
class UpdateData:
    """Sequences of the users with new events, and what is left to the next update."""

    dataset: Dataset
    """The users with new events: what is remembered of them, then the new events. The newest event of some is held out for
    validation (early stopping), that of others for test (the verdict)."""
    users: tuple[str, ...]
    """Their ids."""
    new_start: NDArray[np.int64]
    """int64 [users]: place in the sequence of the first new event."""
    state: UpdateState


def make_update(
    state: UpdateState,
    vocabulary: Vocabulary,
    events: SortedEvents,
    spec: RecommenderSpec,
    settings: UpdateConfig,
    *,
    number: int,
    seed: int,
) -> UpdateData:
    """Append new events to what is remembered of their users, hold some out, and choose what is left to the next update.

    Args:
        state: What the update before left, for the items of ``vocabulary``.
        vocabulary: Items, the new ones among them.
        events: Events to learn from.
        spec: Sizes of the requests.
        settings: Section ``update``.
        number: Number of this update.
        seed: Random seed of all choices.

    Raises:
        DataError: There are too few users to judge the update by.
    """
    by_user = events.used.sort("user_id", maintain_order=True)
    users, new, before = _by_user(state, vocabulary, by_user)
    sequences = Ragged.of([np.concatenate([seen, new[row]]) for row, seen in enumerate(before)])
    new_start = np.array([len(seen) for seen in before], np.int64)
    stopping, judged = _held_out_users(sequences, spec, settings.judged_users, seed)
    validation_start, test_start = sequences.lengths, sequences.lengths
    validation_start[[*stopping, *judged]] -= 1
    test_start[judged] -= 1
    dataset = Dataset(sequences.items, sequences.offsets, validation_start, test_start, item_count=len(vocabulary))
    newest_events = by_user[new.offsets[1:][stopping] - 1]
    later = pl.concat([newest_events, events.unknown]).sort("timestamp", maintain_order=True)
    left = _next_state(
        state, dataset, users, new_start=new_start, stopping=stopping, spec=spec, settings=settings, number=number, seed=seed
    )
    last_time = max(state.last_time, float(events.used["timestamp"].max()))  # type: ignore[arg-type]
    return UpdateData(dataset, users, new_start, UpdateState(**left, later=later, last_time=last_time))


def _by_user(
    state: UpdateState, vocabulary: Vocabulary, by_user: pl.DataFrame
) -> tuple[tuple[str, ...], Ragged, list[NDArray[np.int32]]]:
    """Users with new events, these events as item indices, and what is remembered of each user before."""
    users = tuple(by_user["user_id"].unique(maintain_order=True))
    lengths = by_user.group_by("user_id", maintain_order=True).len()["len"].to_numpy().astype(np.int64)
    new = Ragged(
        np.array(vocabulary.encode(by_user["item_id"]), np.int32), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    )
    known = {user: row for row, user in enumerate(state.users)}
    nothing = np.zeros(0, np.int32)
    return users, new, [state.recent[known[user]] if user in known else nothing for user in users]


def _held_out_users(sequences: Ragged, spec: RecommenderSpec, most: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the users whose newest event stops the training, and of those by whose newest event the update is judged.

    Raises:
        DataError: There are too few of them.
    """
    rows = range(len(sequences))
    can = [row for row in rows if len(own := sequences[row]) > 1 and len(truth_of(own[:-1], own[-1:], spec))]
    if len(can) < FEWEST_JUDGED:
        raise DataError(
            f"found new events of {len(sequences):,} users, of whom {len(can):,} have a history and a new item after it, expected"
            f" at least {FEWEST_JUDGED} to judge the update by. Collect more events, and update then"
        )
    drawn = np.random.default_rng(seed).permutation(np.array(can, np.int64))[: 2 * most]
    half = len(drawn) // 2
    return np.sort(drawn[:half]), np.sort(drawn[half:])


def _next_state(
    state: UpdateState,
    dataset: Dataset,
    users: tuple[str, ...],
    *,
    new_start: NDArray[np.int64],
    stopping: NDArray[np.int64],
    spec: RecommenderSpec,
    settings: UpdateConfig,
    number: int,
    seed: int,
) -> dict[str, Any]:
    """All but the events for later: an event that stopped the training is learned from later, one that judges it is not."""
    ends = np.diff(dataset.offsets)
    ends[stopping] -= 1
    learned = [dataset.sequence(user)[new_start[user] : end] for user, end in enumerate(dataset.validation_start)]
    counts = state.counts + np.bincount(np.concatenate(learned), minlength=dataset.item_count + 1)
    came = set(users)
    kept = [row for row, user in enumerate(state.users) if user not in came]
    recent = [state.recent[row] for row in kept] + [newest(dataset.sequence(user)[:end], spec) for user, end in enumerate(ends)]
    remembered = (*(state.users[row] for row in kept), *users)[-settings.remembered_users :]
    return {
        "counts": counts,
        "users": remembered,
        "recent": Ragged.of(recent[-settings.remembered_users :]),
        "exemplars": choose_exemplars(state.exemplars, _new_exemplars(dataset, new_start, spec, number), settings.exemplars, seed),
        "requests": choose_requests(state.requests, _new_requests(dataset, spec, number), settings.judged_users, seed),
    }


def _new_exemplars(dataset: Dataset, new_start: NDArray[np.int64], spec: RecommenderSpec, number: int) -> Exemplars:
    """The newest training window of each user, where it has a new target."""
    sequences, places = [], []
    for user, end in enumerate(dataset.validation_start):
        begin = max(int(end) - spec.history_length - 1, 0)
        first = max(int(new_start[user]) - begin, 1)
        if first < end - begin:
            sequences.append(dataset.sequence(user)[begin:end])
            places.append(first)
    return Exemplars(Ragged.of(sequences), np.array(places, np.int64), np.full(len(places), number, np.int64), 1.0)


def _new_requests(dataset: Dataset, spec: RecommenderSpec, number: int) -> Requests:
    """The users whose newest event judges this update."""
    judged = np.flatnonzero(dataset.test_start < np.diff(dataset.offsets))
    histories = [newest(dataset.sequence(user)[:-1], spec) for user in judged]
    truths = [dataset.sequence(user)[-1:] for user in judged]
    return Requests(Ragged.of(histories), Ragged.of(truths), np.full(len(judged), number, np.int64), 1.0)
