"""The serving contract in numpy: one interface for PyTorch, ONNX Runtime, engines and a live server."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Answer = tuple[NDArray[np.int32], NDArray[np.float32]]
"""Items int32 [B, K], best first, and their scores float32 [B, K]."""


class Runner(Protocol):
    """A model that recommends, wherever it runs."""

    def recommend(self, history: NDArray[np.int32], exclude: NDArray[np.int32]) -> Answer:
        """Recommend for B histories.

        Args:
            history: Item indices, oldest first, left-padded with 0, int32 [B, L].
            exclude: Further items that must not be returned, padded with 0, int32 [B, E].
        """
        ...


class ScoringRunner(Runner, Protocol):
    """A model whose scores of the whole catalogue can be read, too."""

    def scores(self, history: NDArray[np.int32], exclude: NDArray[np.int32]) -> NDArray[np.float32]:
        """Scores of padding and items 1..N, ``MASKED_SCORE`` where an item must not be returned, float32 [B, N + 1].

        Arguments as in ``recommend``.
        """
        ...
