"""Training sequences: windows of users' histories, batched by length."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

from distilrec.data.dataset import Dataset
from distilrec.specs import PADDING


class Window(NamedTuple):
    """Consecutive training interactions ``begin..end`` (flat positions); each but the last predicts the one after it."""

    begin: int
    end: int


class Batch(NamedTuple):
    """M = number of True in ``valid``."""

    history: Tensor
    """int64 [B, T], right-padded with 0."""
    valid: Tensor
    """bool [B, T]: positions that predict something."""
    targets: Tensor
    """int64 [M]: the item after each valid position."""
    prefixes: Tensor
    """int64 [M]: flat position of each valid position, the row of the soft targets."""


def training_windows(dataset: Dataset, history_length: int, *, drop_last_prefix: bool = True) -> list[Window]:
    """Cut users' training parts into windows of at most ``history_length`` predictions, from the newest backwards.

    Args:
        dataset: all sequences.
        history_length: L.
        drop_last_prefix: leave out the whole training part as a prefix, as its next item is not for training.
    """
    windows = []
    for offset, length in zip(dataset.offsets[:-1], dataset.validation_start, strict=True):
        end = int(length) - drop_last_prefix
        while end > 0:
            begin = max(0, end - history_length)
            windows.append(Window(int(offset) + begin, int(offset) + end))
            end = begin
    return windows


@dataclass(frozen=True)
class Windows(TorchDataset[Window]):
    """Map-style data set of windows; ``collate`` turns some into a batch."""

    items: NDArray[np.int32]
    windows: list[Window]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Window:
        return self.windows[index]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 [windows]."""
        return np.array([end - begin for begin, end in self.windows], np.int64)

    def collate(self, windows: list[Window]) -> Batch:
        """Right-pad windows to the longest of them."""
        length = max(end - begin for begin, end in windows)
        history = np.full((len(windows), length), PADDING, np.int64)
        prefixes = np.full((len(windows), length), -1, np.int64)
        for row, (begin, end) in enumerate(windows):
            history[row, : end - begin] = self.items[begin:end]
            prefixes[row, : end - begin] = np.arange(begin, end)
        valid = prefixes >= 0
        # The last interaction of all has none after it; it is never a prefix to learn from, only one to write targets for.
        following = np.minimum(prefixes[valid] + 1, len(self.items) - 1)
        targets = self.items[following].astype(np.int64)
        return Batch(*(torch.from_numpy(a) for a in (history, valid, targets, prefixes[valid])))


class LengthBatchSampler(Sampler[list[int]]):
    """Batches of windows of similar length in random order; the same seed gives the same batches.

    Args:
        lengths: int64 [windows].
        batch_size: windows a batch.
        seed: of the order; None keeps batches in order of length.
    """

    def __init__(self, lengths: NDArray[np.int64], batch_size: int, seed: int | None) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        lengths = self.lengths.astype(np.float64)
        random = np.random.default_rng(self.seed)
        if self.seed is not None:
            # A little noise, so that the same windows do not always meet.
            lengths = lengths * random.uniform(0.8, 1.2, len(lengths))
        order = np.argsort(lengths, kind="stable")
        batches = [order[i : i + self.batch_size].tolist() for i in range(0, len(order), self.batch_size)]
        if self.seed is not None:
            random.shuffle(batches)
        yield from batches
