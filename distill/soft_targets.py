"""Soft targets: what a teacher thinks of every training prefix, on disk. A teacher is whatever wrote this folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from distill.encoders import Encoder
from distill.sequences import LengthBatchSampler, Windows
from distilrec.manifest import read_manifest
from distilrec.progress import progress


class SoftBatch(NamedTuple):
    """Soft targets of M prefixes."""

    items: Tensor
    """int64 [M, n], indices 1..N."""
    logits: Tensor
    """float32 [M, n], best first."""
    rest: Tensor
    """float32 [M]: logsumexp of all other logits / T."""

    def to(self, device: torch.device) -> "SoftBatch":
        """The same on another device."""
        return SoftBatch(*(tensor.to(device) for tensor in self))


@dataclass(frozen=True)
class SoftTargets:
    """Memory-mapped: only what a batch needs is read. Row p belongs to the prefix that ends at flat position p."""

    items: NDArray[np.int32]
    logits: NDArray[np.float16]
    rest: NDArray[np.float32]
    temperature: float

    def read(self, prefixes: Tensor) -> SoftBatch:
        """Rows of M prefixes; ``prefixes`` is int64 [M]."""
        rows = prefixes.cpu().numpy()
        return SoftBatch(
            torch.from_numpy(self.items[rows].astype(np.int64)),
            torch.from_numpy(self.logits[rows].astype(np.float32)),
            torch.from_numpy(self.rest[rows]),
        )


def load_targets(folder: Path) -> SoftTargets:
    """Open what stage ``targets`` wrote."""
    return open_targets(folder, read_manifest(folder).settings["temperature"])


def open_targets(folder: Path, temperature: float) -> SoftTargets:
    """Open what ``write_targets`` wrote for this temperature."""
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("items", "logits", "rest")}
    return SoftTargets(**arrays, temperature=temperature)


@torch.inference_mode()
def write_targets(teacher: Encoder, windows: Windows, folder: Path, *, top_n: int, temperature: float, batch_size: int) -> None:
    """Write items.npy int32 [P, n], logits.npy float16 [P, n] and rest.npy float32 [P]; rows outside the windows stay 0."""
    item_count = teacher.items.item_count
    top_n = min(top_n, item_count)
    count = len(windows.items)
    items = _create(folder / "items.npy", np.int32, (count, top_n))
    logits = _create(folder / "logits.npy", np.float16, (count, top_n))
    rest = _create(folder / "rest.npy", np.float32, (count,))
    table = teacher.items()[1 : item_count + 1]
    loader = DataLoader(windows, batch_sampler=LengthBatchSampler(windows.lengths, batch_size, None), collate_fn=windows.collate)
    for batch in progress(loader, desc="soft targets", unit="batch"):
        scores = nn.functional.linear(teacher.encode_all(batch.history)[batch.valid], table)
        best, order = scores.topk(top_n, dim=1)
        others = scores.scatter(1, order, -torch.inf) / temperature
        rows = batch.prefixes.numpy()
        items[rows] = order.numpy() + 1
        logits[rows] = best.numpy()
        # With every item in the top n there is no rest; its logsumexp would be -inf, and 0 * inf is NaN.
        rest[rows] = others.logsumexp(dim=1).clamp(min=-1e4).numpy()
    for array in (items, logits, rest):
        array.flush()


def _create(path: Path, dtype: type[np.number[Any]], shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    array: np.memmap[Any, Any] = open_memmap(path, "w+", dtype, shape)  # type: ignore[no-untyped-call]
    return array
