"""The serving contract in numpy: one interface for PyTorch, ONNX Runtime, engines and a live server."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distilrec.core.specs import RecommenderSpec

Choices = Mapping[str, NDArray[np.int32]]
"""Optional tensors of B requests by name, int32 [B, ...] (``RecommenderSpec.choices``). One that is left out chooses nothing."""

Answer = tuple[NDArray[np.int32], NDArray[np.float32]]
"""Items int32 [B, K], best first, and their scores float32 [B, K]."""

NOTHING_CHOSEN: Choices = MappingProxyType({})
"""The choices of a request that has none."""


class Runner(Protocol):
    """A model that recommends, wherever it runs."""

    def recommend(self, history: NDArray[np.int32], exclude: NDArray[np.int32], choices: Choices = NOTHING_CHOSEN) -> Answer:
        """Recommend for B histories.

        Args:
            history: Item indices, oldest first, left-padded with 0, int32 [B, L].
            exclude: Further items that must not be returned, padded with 0, int32 [B, E].
            choices: What else the requests choose.
        """
        ...


class ScoringRunner(Runner, Protocol):
    """A model whose scores of the whole catalogue can be read, too."""

    def scores(self, history: NDArray[np.int32], exclude: NDArray[np.int32]) -> NDArray[np.float32]:
        """Scores of padding and items 1..N, ``MASKED_SCORE`` where an item must not be returned, float32 [B, N + 1].

        Arguments as in ``recommend``.
        """
        ...


def request_arrays(
    spec: RecommenderSpec, history: NDArray[np.int32], exclude: NDArray[np.int32], choices: Choices = NOTHING_CHOSEN
) -> dict[str, NDArray[np.int32]]:
    """All tensors that a model takes, by name and in the order of its inputs; choices that are left out are 0.

    Args:
        spec: Sizes of the model.
        history: int32 [B, L].
        exclude: int32 [B, E].
        choices: Optional tensors; those that the model does not have must not be among them.

    Raises:
        ValueError: The model has no such tensor.
    """
    given = {spec.history.name: history, spec.exclude.name: exclude, **choices}
    if unknown := given.keys() - {tensor.name for tensor in spec.inputs}:
        raise ValueError(f"found the tensors {sorted(unknown)}, expected none but {[tensor.name for tensor in spec.inputs]}")
    rows = len(history)
    return {t.name: given[t.name] if t.name in given else np.zeros((rows, *t.shape), np.int32) for t in spec.inputs}


def chosen_rows(choices: Choices, rows: slice | NDArray[np.integer[Any]]) -> dict[str, NDArray[np.int32]]:
    """The choices of some requests."""
    return {name: values[rows] for name, values in choices.items()}
