"""Values of categories of all items, as models read them. PyTorch models import it, so it imports little."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Bags:
    """Values of categories of N items: those of item i + 1 are ``values[offsets[i]:offsets[i + 1]]``."""

    values: NDArray[np.int64]
    """int64 [total], 0..count - 1, over all categories."""
    offsets: NDArray[np.int64]
    """int64 [N + 1]."""
    weights: NDArray[np.float32]
    """float32 [total]: 1 divided by the number of values that the item has of this category."""
    count: int
    """Number of different values."""
