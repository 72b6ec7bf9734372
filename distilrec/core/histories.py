"""How a long history is cut: the one rule of the client, the front door and evaluation.

The newest L items are read; of the older ones the newest E are excluded. A copy of this file is served next to the front door's
model.py, where DistilRec is not installed: it must import nothing but the standard library and numpy.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PADDING = 0


class CutHistory(NamedTuple):
    """A history as a request holds it, as item indices."""

    newest: list[int]
    """At most L items, oldest first."""
    exclude: list[int]
    """At most E different items: first those that the caller excludes, then the older items of the history, newest first."""
    left_over: list[int]
    """Different items that have no room in ``exclude``, newest first."""


def cut_history(items: list[int], excluded: Sequence[int], history_length: int, exclude_length: int) -> CutHistory:
    """Cut a history to the sizes of a request.

    Args:
        items: Item indices of the history, oldest first, without padding.
        excluded: Item indices that the caller excludes, without padding. They come before the older items of the history.
        history_length: L, the number of items that are read; at least 1.
        exclude_length: E, the number of further items that are excluded.
    """
    exclude = list(dict.fromkeys([*excluded, *reversed(items[:-history_length])]))
    return CutHistory(items[-history_length:], exclude[:exclude_length], exclude[exclude_length:])


def request_tensors(
    histories: Sequence[list[int]], excludes: Sequence[list[int]], history_length: int, exclude_length: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Write cut histories into the tensors of a request.

    Args:
        histories: For each of B rows, at most L item indices, oldest first.
        excludes: For each row, at most E item indices.
        history_length: L.
        exclude_length: E.

    Returns:
        history int32 [B, L], left-padded with 0, and exclude int32 [B, E], padded with 0.
    """
    history = np.full((len(histories), history_length), PADDING, np.int32)
    exclude = np.full((len(histories), exclude_length), PADDING, np.int32)
    for row, (newest, banned) in enumerate(zip(histories, excludes, strict=True)):
        if newest:
            history[row, -len(newest) :] = newest
        if banned:
            exclude[row, : len(banned)] = banned
    return history, exclude
