"""Index sequences with their splits, which the data stage writes and all later stages read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from distilrec.core.histories import cut_history, request_tensors
from distilrec.core.specs import PADDING, ROW_MULTIPLE, RecommenderSpec

Split = Literal["validation", "test"]
EXCLUDE_LENGTHS = (128, 2048)
"""Smallest and largest ``exclude_length`` that follows from data."""
_EXCLUDE_STEP, _SMALLEST_CATALOGUE = 64, 32
_ARRAYS = ("items", "offsets", "validation_start", "test_start")


@dataclass(frozen=True)
class Dataset:
    """All interactions as item indices 1..N, users one after another, each in order of time."""

    items: NDArray[np.int32]
    """int32 [interactions]."""
    offsets: NDArray[np.int64]
    """int64 [users + 1]: user u's interactions are ``items[offsets[u]:offsets[u + 1]]``."""
    validation_start: NDArray[np.int64]
    """int64 [users]: position in the user's sequence where validation starts; before it is training."""
    test_start: NDArray[np.int64]
    """int64 [users]: position in the user's sequence where test starts."""
    item_count: int
    """N."""

    @property
    def user_count(self) -> int:
        """Number of users."""
        return len(self.offsets) - 1

    def sequence(self, user: int) -> NDArray[np.int32]:
        """All items of a user, int32 [n]."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def training_counts(self) -> NDArray[np.int64]:
        """Number of training interactions of each item, int64 [N + 1]; entry 0 (padding) is 0."""
        training = [self.sequence(user)[:end] for user, end in enumerate(self.validation_start)]
        return np.bincount(np.concatenate(training), minlength=self.item_count + 1)

    def save(self, folder: Path) -> None:
        """Write one .npy file for each array."""
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))


def load_dataset(folder: Path, item_count: int) -> Dataset:
    """Read what ``Dataset.save`` wrote; ``item_count`` is the length of the vocabulary."""
    return Dataset(**{name: np.load(folder / f"{name}.npy") for name in _ARRAYS}, item_count=item_count)


@dataclass(frozen=True)
class HeldOut:
    """Requests with known answers: one row for each user with a history and something new after the cut."""

    users: NDArray[np.int64]
    """int64 [U]: index of the user in the data set."""
    history: NDArray[np.int32]
    """int32 [U, L], left-padded with 0: the newest items before the cut."""
    exclude: NDArray[np.int32]
    """int32 [U, E], padded with 0: the newest of the older items before the cut, so that they are not recommended."""
    truth: NDArray[np.int32]
    """int32 [U, T], padded with 0: items after the cut that were not seen before it; with repeats also seen ones."""
    unjudged_users: int
    """Number of users who are left out, because they have no history or nothing new after the cut."""
    truncated_users: int
    """Number of users who have seen more than a request can name: L items and E different older ones. The oldest may be recommended
    again."""
    choices: Mapping[str, NDArray[np.int32]] = field(default_factory=dict)
    """Optional tensors of the requests by name, int32 [U, ...]: ``repeats`` where seen items may be recommended."""

    def rows(self, rows: NDArray[np.int64]) -> "HeldOut":
        """Some of the users, in this order."""
        arrays = {name: getattr(self, name)[rows] for name in ("users", "history", "exclude", "truth")}
        return replace(self, **arrays, choices={name: values[rows] for name, values in self.choices.items()})


def held_out(dataset: Dataset, split: Split, spec: RecommenderSpec, max_users: int | None = None) -> HeldOut:
    """Requests of a split: the history ends at the split's cut, the right answers lie between this cut and the next.

    Where the recommender can repeat, it is asked to: no seen item is left out, and a right answer that was seen before counts.

    Args:
        dataset: Sequences of all users.
        split: Split whose users are asked for.
        spec: Sizes of the requests.
        max_users: Largest number of users, the first ones of the data set; None for all.
    """
    starts = dataset.validation_start if split == "validation" else dataset.test_start
    ends = dataset.test_start if split == "validation" else np.diff(dataset.offsets)
    rows = []
    for user, (start, end) in enumerate(zip(starts, ends, strict=True)):
        seen, future = np.split(dataset.sequence(user)[:end], [start])
        truth = np.unique(future) if spec.repeats else np.setdiff1d(future, seen)
        if len(seen) and len(truth):
            rows.append((user, seen, truth))
    unjudged = dataset.user_count - len(rows)
    rows = rows[:max_users]
    read = -spec.history_length if spec.repeats else 0  # older items are not excluded where they may be repeated
    history, exclude = requests([seen[read:] for _, seen, _ in rows], spec)
    truths = np.full((len(rows), max((len(truth) for _, _, truth in rows), default=1)), PADDING, np.int32)
    for row, (_, _, truth) in enumerate(rows):
        truths[row, : len(truth)] = truth
    truncated = sum(_older(seen, spec.history_length) > spec.exclude_length for _, seen, _ in rows if not spec.repeats)
    choices = {"repeats": np.ones((len(rows), 1), np.int32)} if spec.repeats else {}
    return HeldOut(np.array([user for user, _, _ in rows], np.int64), history, exclude, truths, unjudged, truncated, choices)


def without_answers(users: HeldOut, items: Sequence[int]) -> HeldOut:
    """The users for whom another right answer is left than these items."""
    truth = np.where(np.isin(users.truth, np.array(items, np.int32)), PADDING, users.truth)
    # Padding goes to the end.
    truth = np.take_along_axis(truth, np.argsort(truth == PADDING, axis=1, kind="stable"), axis=1)
    left = (truth != PADDING).any(axis=1)
    kept = users.rows(np.flatnonzero(left))
    return replace(kept, truth=truth[left], unjudged_users=users.unjudged_users + int((~left).sum()))


def requests(seen: Sequence[NDArray[np.int32]], spec: RecommenderSpec) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Requests for whole histories, which are cut as the client cuts them (``core.histories``).

    Args:
        seen: For each of U users, the item indices of the whole history, int32 [n], oldest first.
        spec: Sizes of the requests.

    Returns:
        history int32 [U, L], left-padded with 0, and exclude int32 [U, E], padded with 0.
    """
    cut = [cut_history(items.tolist(), (), spec.history_length, spec.exclude_length) for items in seen]
    histories, excludes = [row.newest for row in cut], [row.exclude for row in cut]
    return request_tensors(histories, excludes, spec.history_length, spec.exclude_length)


def older_items(dataset: Dataset, history_length: int) -> NDArray[np.int64]:
    """Number of different items of each user that are older than the newest L, int64 [users]: a request has to exclude them.

    Args:
        dataset: Sequences of all users.
        history_length: L.
    """
    return np.array([_older(dataset.sequence(user), history_length) for user in range(dataset.user_count)], np.int64)


def _older(seen: NDArray[np.int32], history_length: int) -> int:
    return len(np.unique(seen[:-history_length])) if len(seen) > history_length else 0


def exclude_length_for(older: NDArray[np.int64], item_count: int, history_length: int) -> int:
    """The ``exclude_length`` that follows from data: room for all older items of each user, and for at least 64 further ones.

    It is a multiple of 64 within ``EXCLUDE_LENGTHS``: a request has that many numbers, however short its history is. With a small
    catalogue there is only room for what a history leaves of it, because TensorRT refuses more indices than items.

    Args:
        older: As ``older_items`` gives it.
        item_count: N.
        history_length: L.
    """
    needed, (smallest, largest) = int(older.max(initial=0)), EXCLUDE_LENGTHS
    wanted = -(-(needed + _EXCLUDE_STEP) // _EXCLUDE_STEP) * _EXCLUDE_STEP
    left = max(item_count - history_length - ROW_MULTIPLE, needed, _SMALLEST_CATALOGUE)
    return min(max(wanted, smallest), left, largest)
