"""Rows of different lengths, one after another in one array; without a loop over rows where they are many."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distilrec.core.specs import PADDING


@dataclass(frozen=True)
class Ragged:
    """S sequences of item indices, one after another."""

    items: NDArray[np.int32]
    """int32 [P]."""
    offsets: NDArray[np.int64]
    """int64 [S + 1]: sequence s is ``items[offsets[s]:offsets[s + 1]]``."""

    @staticmethod
    def of(sequences: Sequence[NDArray[np.int32]]) -> "Ragged":
        """Join sequences, int32 [n] each."""
        lengths = np.array([len(sequence) for sequence in sequences], np.int64)
        items = np.concatenate(sequences).astype(np.int32) if len(sequences) else np.zeros(0, np.int32)
        return Ragged(items, np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        """One sequence, int32 [n]."""
        return self.items[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 [S]."""
        return np.diff(self.offsets)

    def rows(self, rows: NDArray[np.int64]) -> "Ragged":
        """Some of the sequences, in this order."""
        return Ragged.of([self[row] for row in rows])

    def then(self, other: "Ragged") -> "Ragged":
        """These sequences, and others after them."""
        return Ragged(
            np.concatenate([self.items, other.items]), np.concatenate([self.offsets, self.offsets[-1] + other.offsets[1:]])
        )


def row_of_each(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row of each entry. int64 [rows + 1] -> int64 [entries]."""
    rows: NDArray[np.int64] = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return rows


def place_in_row(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each entry in its row, from 0. int64 [rows + 1] -> int64 [entries]."""
    places: NDArray[np.int64] = np.arange(offsets[-1] - offsets[0]) - np.repeat(offsets[:-1] - offsets[0], np.diff(offsets))
    return places


def padded(rows: NDArray[np.int64], values: NDArray[np.int32], count: int, width: int | None = None) -> NDArray[np.int32]:
    """A matrix of rows, padded with 0 on the right; values beyond its width are left out.

    Args:
        rows: int64 [M], the row of each value, in rising order.
        values: int32 [M].
        count: Number of rows, U.
        width: Its width; None for that of the longest row, at least 1.

    Returns:
        int32 [U, width].
    """
    lengths = np.bincount(rows, minlength=count)
    places = place_in_row(np.concatenate([[0], np.cumsum(lengths)]))
    width = max(int(lengths.max(initial=0)), 1) if width is None else width
    matrix = np.full((count, width), PADDING, np.int32)
    kept = places < width
    matrix[rows[kept], places[kept]] = values[kept]
    return matrix


def newest(items: NDArray[np.int32], begins: NDArray[np.int64], ends: NDArray[np.int64], length: int) -> NDArray[np.int32]:
    """The last ``length`` entries from ``begins`` to ``ends`` (int64 [U], exclusive). int32 [U, length], left-padded with 0."""
    places = ends[:, None] + np.arange(-length, 0)
    there = places >= begins[:, None]
    found = items[np.where(there, places, 0)] if len(items) else np.zeros(places.shape, np.int32)
    matrix: NDArray[np.int32] = np.where(there, found, np.int32(PADDING))
    return matrix


def newest_of_each(rows: NDArray[np.int64], items: NDArray[np.int32]) -> NDArray[np.int64]:
    """Where each different item of each row stands last: places int64 [D], rows in rising order, the newest of a row first.

    Args:
        rows: int64 [M], the row of each item, in rising order.
        items: int32 [M], oldest first in each row.
    """
    keys = rows * (int(items.max(initial=0)) + 1) + items
    _, from_the_end = np.unique(keys[::-1], return_index=True)
    places = len(keys) - 1 - from_the_end
    newest_first: NDArray[np.int64] = places[np.lexsort((-places, rows[places]))]
    return newest_first
