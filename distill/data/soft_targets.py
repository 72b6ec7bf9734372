"""Soft targets on disk: a teacher's best items and their logits for each training prefix. Any model can write such a folder.

items.npy      uint16 [P, n]   the teacher's best items, indices 1..N, best first; int32 for more than 65,535 items
logits.npy     float16 [P, n]  their logits; or uint8, codes that stand for multiples of a step below the best one's
steps.npy      float16 [P]     the step of each prefix (only with such codes)
rest.npy       float32 [P, t]  logsumexp of all other logits / T, for each of t temperatures
features.npy   float16 [P, d]  the teacher's user vectors (only where the settings say so)
sequences.npy  int32 [P]       the sequences the prefixes are of: the training data's, then perturbed copies
windows.npy    int64 [W, 3]    begin, end and copy (0: the training data's) of each window of them

Row p belongs to the prefix that ends at flat position p. All files are memory-mapped: a batch reads only its own rows.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from distill.data.indices import items_at
from distilrec.config import TargetsConfig
from distilrec.core.manifest import read_manifest

_SMALLEST_REST = -1e4
"""With every item in the top n, no item is outside it; the logsumexp would be -inf, and 0 * inf is NaN."""


_MOST_SHORT = 2**16 - 1
"""Largest index in 16 bits."""
_LARGEST_CODE = 2**8 - 1


class SoftBatch(NamedTuple):
    """Soft targets of M prefixes."""

    items: Tensor
    """int64 [M, n], indices 1..N; 0 where the teacher did not score the prefix."""
    logits: Tensor
    """float32 [M, n], best first."""
    rest: Tensor
    """float32 [M]: logsumexp of all other logits / T."""
    features: Tensor | None
    """float32 [M, d]: the teacher's user vectors."""

    def to(self, device: torch.device) -> "SoftBatch":
        """The same soft targets on another device."""
        features = None if self.features is None else self.features.to(device)
        return SoftBatch(self.items.to(device), self.logits.to(device), self.rest.to(device), features)


@dataclass(frozen=True)
class SoftTargets:
    """A folder of soft targets. Pickling keeps its path, so that each process opens the files itself."""

    folder: Path
    temperatures: tuple[float, ...]
    """In rising order."""

    @cached_property
    def items(self) -> NDArray[np.uint16] | NDArray[np.int32]:
        """uint16 or int32 [P, n]."""
        return self._open("items")

    @cached_property
    def logits(self) -> NDArray[np.float16] | NDArray[np.uint8]:
        """float16 [P, n], or codes, uint8 [P, n]."""
        return self._open("logits")

    @cached_property
    def steps(self) -> NDArray[np.float16] | None:
        """float16 [P], where logits are codes."""
        return self._open("steps") if (self.folder / "steps.npy").exists() else None

    @cached_property
    def rest(self) -> NDArray[np.float32]:
        """float32 [P, t]."""
        return self._open("rest")

    @cached_property
    def features(self) -> NDArray[np.float16] | None:
        """float16 [P, d], where the teacher's user vectors were kept."""
        return self._open("features") if (self.folder / "features.npy").exists() else None

    @cached_property
    def sequences(self) -> NDArray[np.int32]:
        """int32 [P]."""
        return self._open("sequences")

    @cached_property
    def windows(self) -> NDArray[np.int64]:
        """int64 [W, 3]: begin, end, copy."""
        return self._open("windows")

    def _open(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return array

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "temperatures": self.temperatures}

    def read(self, prefixes: Tensor, temperature: float = 1.0) -> SoftBatch:
        """Soft targets of M prefixes.

        Args:
            prefixes: int64 [M], rows.
            temperature: T, from the lowest to the highest of ``temperatures``.
        """
        rows = prefixes.cpu().numpy()
        return SoftBatch(
            torch.from_numpy(self.items[rows].astype(np.int64)),
            torch.from_numpy(self._logits_of(rows)),
            torch.from_numpy(self._rest_at(rows, temperature)),
            None if self.features is None else torch.from_numpy(self.features[rows].astype(np.float32)),
        )

    def _logits_of(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [M, n]."""
        logits: NDArray[np.float32] = self.logits[rows].astype(np.float32)
        if self.steps is not None:
            logits *= -self.steps[rows, None].astype(np.float32)
        return logits

    def _rest_at(self, rows: NDArray[np.int64], temperature: float) -> NDArray[np.float32]:
        """Exact for the stored temperatures; between them T * logsumexp(z / T), which is smooth, is interpolated. float32 [M]."""
        grid = np.array(self.temperatures)
        right = int(np.searchsorted(grid, temperature))
        if grid[min(right, len(grid) - 1)] == temperature:
            return np.asarray(self.rest[rows, right])
        left = right - 1
        share = (temperature - grid[left]) / (grid[right] - grid[left])
        scaled = self.rest[rows][:, [left, right]] * grid[[left, right]]
        between: NDArray[np.float32] = ((scaled @ np.array([1 - share, share])) / temperature).astype(np.float32)
        return between


class SoftTargetWriter:
    """Fills a folder of soft targets, some prefixes at a time.

    Args:
        folder: Existing folder.
        sequences: int32 [P], as in the file.
        windows: int64 [W, 3], as in the file.
        settings: Number of items kept (at most N) and temperatures.
        item_count: N.
        feature_size: d of the teacher's user vectors; None keeps none.
    """

    def __init__(
        self,
        folder: Path,
        sequences: NDArray[np.int32],
        windows: NDArray[np.int64],
        settings: TargetsConfig,
        item_count: int,
        *,
        feature_size: int | None = None,
    ) -> None:
        count, self.top_n = len(sequences), min(settings.top_n, item_count)
        self.temperatures = temperatures = settings.temperatures
        np.save(folder / "sequences.npy", sequences)
        np.save(folder / "windows.npy", windows)
        coded = settings.logits == "int8"
        self._items = _create(folder / "items.npy", np.uint16 if item_count <= _MOST_SHORT else np.int32, (count, self.top_n))
        self._logits = _create(folder / "logits.npy", np.uint8 if coded else np.float16, (count, self.top_n))
        self._steps = _create(folder / "steps.npy", np.float16, (count,)) if coded else None
        self._rest = _create(folder / "rest.npy", np.float32, (count, len(temperatures)))
        self._features = None if feature_size is None else _create(folder / "features.npy", np.float16, (count, feature_size))

    def write(self, rows: NDArray[np.int64], scores: Tensor, features: Tensor | None = None) -> None:
        """Write the soft targets of M prefixes.

        Args:
            rows: int64 [M], the prefixes.
            scores: float32 [M, N], the teacher's logits; overwritten.
            features: float32 [M, d], the teacher's user vectors.
        """
        best, order = scores.topk(self.top_n, dim=1)
        self._items[rows] = items_at(order).cpu().numpy()
        # Only differences count; the best logit becomes 0, where float16 is most precise.
        below = (best - best[:, :1]).cpu().numpy()
        if self._steps is None:
            self._logits[rows] = below
        else:
            # The step is rounded upwards, so that the lowest logit has a code.
            steps = np.nextafter((-below[:, -1] / _LARGEST_CODE).astype(np.float16), np.float16(np.inf))
            self._steps[rows] = steps
            self._logits[rows] = np.rint(-below / steps[:, None].astype(np.float32)).astype(np.uint8)
        others = scores.sub_(best[:, :1]).scatter_(1, order, -torch.inf)
        for column, temperature in enumerate(self.temperatures):
            rest = (others / temperature).logsumexp(dim=1).clamp(min=_SMALLEST_REST)
            self._rest[rows, column] = rest.cpu().numpy()
        if self._features is not None:
            assert features is not None
            self._features[rows] = features.cpu().numpy()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for array in (self._items, self._logits, self._steps, self._rest, self._features):
            if array is not None:
                array.flush()


def load_soft_targets(folder: Path) -> SoftTargets:
    """Soft targets that a stage ``targets`` wrote."""
    return SoftTargets(folder, tuple(read_manifest(folder).settings["temperatures"]))


def _create(path: Path, dtype: type[np.number[Any]], shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    array: np.memmap[Any, Any] = open_memmap(path, "w+", dtype, shape)  # type: ignore[no-untyped-call]
    return array
