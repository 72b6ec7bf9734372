"""Golden requests: requests and the answers that a served model must give. They are stored with the model."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distilrec.core.errors import DataError
from distilrec.core.runner import Answer, chosen_rows

FILE_NAME = "golden.npz"

_ARRAYS = ("history", "exclude", "items", "scores")
_CHOICE = "choice_"
"""Beginning of the names of optional tensors in the file."""


@dataclass(frozen=True)
class Golden:
    """G requests and the answers that the exported model gave to them."""

    history: NDArray[np.int32]
    """int32 [G, L]."""
    exclude: NDArray[np.int32]
    """int32 [G, E]."""
    items: NDArray[np.int32]
    """int32 [G, K]."""
    scores: NDArray[np.float32]
    """float32 [G, K]."""
    choices: Mapping[str, NDArray[np.int32]] = field(default_factory=dict)
    """Optional tensors of the requests by name, int32 [G, ...]: those that the model has."""

    @property
    def answer(self) -> Answer:
        """Items and scores."""
        return self.items, self.scores

    def rows(self, rows: slice) -> "Golden":
        """The requests of these rows, with their answers."""
        arrays = {name: getattr(self, name)[rows] for name in _ARRAYS}
        return Golden(**arrays, choices=chosen_rows(self.choices, rows))

    def save(self, path: Path) -> None:
        """Write an .npz file; equal requests give equal bytes."""
        chosen = {f"{_CHOICE}{name}": values for name, values in self.choices.items()}
        np.savez_compressed(path, **{name: getattr(self, name) for name in _ARRAYS}, **chosen)


def load_golden(path: Path) -> Golden:
    """Read what ``Golden.save`` wrote.

    Raises:
        DataError: The file does not exist, or holds no golden requests.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            choices = {name.removeprefix(_CHOICE): arrays[name] for name in arrays.files if name.startswith(_CHOICE)}
            return Golden(**{name: arrays[name] for name in _ARRAYS}, choices=choices)
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file, expected a served model's golden requests. Make them with: distilrec export"
        ) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not golden requests: {error!r}") from error
