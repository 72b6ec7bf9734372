"""Index sequences with their splits, which the data stage writes and all later stages read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from distilrec.core.histories import cut_history, request_tensors
from distilrec.core.specs import PADDING, ROW_MULTIPLE, RecommenderSpec
from distilrec.data import ragged

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
        in_training = ragged.place_in_row(self.offsets) < np.repeat(self.validation_start, np.diff(self.offsets))
        return np.bincount(self.items[in_training], minlength=self.item_count + 1)

    def save(self, folder: Path) -> None:
        """Write one .npy file for each array."""
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))


def load_dataset(folder: Path, item_count: int) -> Dataset:
    """Read what ``Dataset.save`` wrote; ``item_count`` is the length of the vocabulary. Interactions are memory-mapped."""
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r" if name == "items" else None) for name in _ARRAYS}
    return Dataset(**arrays, item_count=item_count)


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
    starts, _ = _cuts(dataset, split)
    user, truth = answers(dataset, split, repeats=spec.repeats)
    users = np.unique(user)[:max_users]
    kept = user <= users[-1] if len(users) else np.zeros(0, np.bool_)
    begins, cuts = dataset.offsets[users], dataset.offsets[users] + starts[users]
    if spec.repeats:  # older items are not excluded where they may be repeated
        exclude, older = np.full((len(users), spec.exclude_length), PADDING, np.int32), np.zeros(len(users), np.int64)
    else:
        exclude, older = _excluded(dataset, users, np.maximum(starts[users] - spec.history_length, 0), spec.exclude_length)
    return HeldOut(
        users=users,
        history=ragged.newest(dataset.items, begins, cuts, spec.history_length),
        exclude=exclude,
        truth=ragged.padded(np.searchsorted(users, user[kept]), truth[kept], len(users)),
        unjudged_users=dataset.user_count - len(np.unique(user)),
        truncated_users=int((older > spec.exclude_length).sum()),
        choices={"repeats": np.ones((len(users), 1), np.int32)} if spec.repeats else {},
    )


def answers(dataset: Dataset, split: Split, *, repeats: bool = False) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The different items of a split that users with a history had not seen before it, or, with repeats, all of them.

    Returns:
        User of each, int64 [M], rising, and the item, int32 [M], rising for each user.
    """
    starts, ends = _cuts(dataset, split)
    user, place = ragged.row_of_each(dataset.offsets), ragged.place_in_row(dataset.offsets)
    keys = user * (dataset.item_count + 1) + dataset.items
    future = np.unique(keys[(place >= starts[user]) & (place < ends[user]) & (starts[user] > 0)])
    if not repeats:
        future = future[~np.isin(future, keys[place < starts[user]])]
    return future // (dataset.item_count + 1), (future % (dataset.item_count + 1)).astype(np.int32)


def _cuts(dataset: Dataset, split: Split) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions in users' sequences where a split starts and ends, int64 [users] each."""
    if split == "validation":
        return dataset.validation_start, dataset.test_start
    return dataset.test_start, np.diff(dataset.offsets)


def _excluded(
    dataset: Dataset, users: NDArray[np.int64], ends: NDArray[np.int64], length: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The different items of some users before a place of each (int64 [U]), newest first, and their number, int64 [U]."""
    offsets = np.concatenate([[0], np.cumsum(ends)])
    row = ragged.row_of_each(offsets)
    items = dataset.items[dataset.offsets[users][row] + ragged.place_in_row(offsets)]
    last = ragged.newest_of_each(row, items)
    return ragged.padded(row[last], items[last], len(users), length), np.bincount(row[last], minlength=len(users))


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
    ends = np.maximum(np.diff(dataset.offsets) - history_length, 0)
    return _excluded(dataset, np.arange(dataset.user_count), ends, 0)[1]


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
