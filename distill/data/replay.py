"""What an update learns from: the new events of each user in their context, and the exemplars that are replayed."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.data.sequences import Windows
from distilrec.core.specs import PADDING
from distilrec.data.dataset import Dataset
from distilrec.data.update_state import Exemplars


@dataclass(frozen=True)
class UpdateWindows:
    """Windows of new events, then those of exemplars."""

    both: Windows
    replay: Windows
    """The exemplars' windows, at the same flat positions as in ``both``."""

    @property
    def replayed(self) -> int:
        """Number of predictions that are replayed."""
        return int((self.replay.targets != PADDING).sum())

    @property
    def new(self) -> int:
        """Number of predictions of new events."""
        return int((self.both.targets != PADDING).sum()) - self.replayed


def update_windows(dataset: Dataset, new_start: NDArray[np.int64], exemplars: Exemplars, history_length: int) -> UpdateWindows:
    """Windows of at most ``history_length`` positions.

    Args:
        dataset: Users with new events, and what came before these.
        new_start: int64 [users]: place of the first new event of each.
        exemplars: Sequences that are replayed.
        history_length: L.
    """
    replayed = exemplars.sequences
    items = np.concatenate([dataset.items, replayed.items])
    new_targets, replay_targets = np.full(len(items), PADDING, np.int32), np.full(len(items), PADDING, np.int32)
    first = np.maximum(new_start, 1)
    _mark(new_targets, items, dataset.offsets[:-1] + first, dataset.offsets[:-1] + dataset.validation_start)
    begins, ends = len(dataset.items) + replayed.offsets[:-1], len(dataset.items) + replayed.offsets[1:]
    _mark(replay_targets, items, begins + exemplars.first_target, ends)
    replay_windows = np.stack([begins, ends - 1], axis=1)
    windows = np.concatenate([_new_windows(dataset, first, history_length), replay_windows])
    return UpdateWindows(Windows(items, new_targets + replay_targets, windows), Windows(items, replay_targets, replay_windows))


def _mark(targets: NDArray[np.int32], items: NDArray[np.int32], firsts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
    """Have each item from ``firsts`` to ``ends`` (exclusive) be the target of the position before it."""
    lengths = np.maximum(ends - firsts, 0)
    before = np.cumsum(lengths) - lengths
    places = np.repeat(firsts, lengths) + np.arange(lengths.sum()) - np.repeat(before, lengths)
    targets[places - 1] = items[places]


def _new_windows(dataset: Dataset, first: NDArray[np.int64], history_length: int) -> NDArray[np.int64]:
    """Windows from the newest backwards until they hold all new targets, int64 [W, 2]; the oldest begins with context."""
    positions = np.maximum(dataset.validation_start - first, 0)  # that predict something new, of each user
    windows = -(-positions // history_length)
    user = np.repeat(np.arange(dataset.user_count), windows)
    newer = np.arange(len(user)) - np.repeat(np.cumsum(windows) - windows, windows)
    ends = dataset.validation_start[user] - 1 - newer * history_length
    in_user: NDArray[np.int64] = np.stack([np.maximum(ends - history_length, 0), ends], axis=1)
    return dataset.offsets[user][:, None] + in_user


def former_share(former_items: int, items: int, replayed: int, new: int) -> float:
    """Square root of the share of old items times the ratio of replayed to new predictions (ADER, arXiv:2007.12000).

    Args:
        former_items: Items before the update.
        items: Items now.
        replayed: Predictions of exemplars.
        new: Predictions of new events.
    """
    return math.sqrt(former_items / items * replayed / max(new, 1))
