"""Which of another model's lists belongs to which prefix of the data set."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distilrec.core.specs import PADDING
from distilrec.data.dataset import Dataset
from distilrec.data.recommendation_lists import RecommendationLists
from distilrec.data.vocabulary import Vocabulary


class Matches(NamedTuple):
    """Which list is for which prefix."""

    prefixes: NDArray[np.int64]
    """int64 [P]: flat positions in the data set at which the prefixes end, in rising order."""
    lists: NDArray[np.int64]
    """int64 [P]: list of each prefix."""
    unknown_users: int
    """Number of lists for users who are not in the data set."""
    unmatched: int
    """Number of other lists that are for no prefix: a position or a history that the data set does not have."""
    repeated: int
    """Number of lists for the same prefix or history as an earlier list."""
    unknown_in_histories: int = 0
    """Number of items of histories that are not in the vocabulary; they are left out of the histories."""


def match_users(found: RecommendationLists, dataset: Dataset, ids: tuple[str, ...]) -> Matches:
    """Find the prefixes of lists that name user and position."""
    assert found.user_ids is not None
    index = {user_id: user for user, user_id in enumerate(ids)}
    users = np.array([index.get(user_id, -1) for user_id in found.user_ids], np.int64)
    positions = dataset.validation_start[users] if found.positions is None else found.positions
    known = users >= 0
    valid = known & (positions >= 1) & (positions <= dataset.test_start[users])
    prefixes, first = np.unique(dataset.offsets[users[valid]] + positions[valid] - 1, return_index=True)
    lists = np.flatnonzero(valid)[first]
    return Matches(prefixes, lists, int((~known).sum()), int((known & ~valid).sum()), int(valid.sum()) - len(prefixes))


def match_histories(found: RecommendationLists, dataset: Dataset, vocabulary: Vocabulary, history_length: int) -> Matches:
    """Find the prefixes of lists that name a history. Unknown items of a history are left out, and its newest L items count."""
    assert found.histories is not None
    by_history: dict[bytes, int] = {}
    unknown = 0
    for number, history in enumerate(found.histories):
        items = np.array(vocabulary.encode(history), np.int32)
        unknown += int((items == PADDING).sum())
        by_history.setdefault(history_key(items, history_length), number)
    prefixes, lists = [], []
    for user, end in enumerate(dataset.test_start):
        sequence = dataset.sequence(user)
        for position in range(1, int(end) + 1):
            found_list = by_history.get(sequence[max(0, position - history_length) : position].tobytes())
            if found_list is not None:
                prefixes.append(int(dataset.offsets[user]) + position - 1)
                lists.append(found_list)
    matched = len(set(lists))
    repeated = len(found.histories) - len(by_history)
    flat = np.array(prefixes, np.int64)
    return Matches(flat, np.array(lists, np.int64), 0, len(by_history) - matched, repeated, unknown)


def with_items_alone(matched: Matches, found: RecommendationLists) -> Matches:
    """Without prefixes whose list holds no known item."""
    kept = np.diff(list_offsets(found))[matched.lists] > 0
    return matched._replace(prefixes=matched.prefixes[kept], lists=matched.lists[kept])


def are_training(prefixes: NDArray[np.int64], dataset: Dataset) -> NDArray[np.bool_]:
    """Which prefixes (int64 [P]) end in the training part of their user. bool [P]."""
    users = np.searchsorted(dataset.offsets, prefixes, side="right") - 1
    inside: NDArray[np.bool_] = prefixes - dataset.offsets[users] < dataset.validation_start[users]
    return inside


def list_offsets(found: RecommendationLists) -> NDArray[np.int64]:
    """First entry of each list, and the number of all entries. int64 [R + 1]."""
    return np.searchsorted(found.owners, np.arange(len(found) + 1)).astype(np.int64)


def history_key(history: NDArray[np.int32], newest: int | None = None) -> bytes:
    """The items of a history as bytes, without padding. int32 [n]."""
    items = history[history != PADDING]
    return bytes((items if newest is None else items[-newest:]).tobytes())
