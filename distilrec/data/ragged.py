"""Sequences of different lengths in two arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
