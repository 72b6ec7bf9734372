"""Golden requests: requests and the answers that a served model must give. They are stored with the model."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distilrec.core.errors import DataError
from distilrec.core.runner import Answer

FILE_NAME = "golden.npz"


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

    @property
    def answer(self) -> Answer:
        """Items and scores."""
        return self.items, self.scores

    def rows(self, rows: slice) -> "Golden":
        """The requests of these rows, with their answers."""
        return Golden(**{name: array[rows] for name, array in vars(self).items()})

    def save(self, path: Path) -> None:
        """Write an .npz file; equal requests give equal bytes."""
        np.savez_compressed(path, **vars(self))


def load_golden(path: Path) -> Golden:
    """Read what ``Golden.save`` wrote.

    Raises:
        DataError: The file does not exist, or holds no golden requests.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Golden(**{name: arrays[name] for name in ("history", "exclude", "items", "scores")})
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file, expected a served model's golden requests. Make them with: distilrec export"
        ) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not golden requests: {error!r}") from error
