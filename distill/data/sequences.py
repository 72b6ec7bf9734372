"""Training sequences: windows of users' histories, batched by length."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

from distill.data.soft_targets import SoftTargets
from distilrec.core.specs import PADDING
from distilrec.data.dataset import Dataset


class Window(NamedTuple):
    """Consecutive training interactions, flat positions ``begin`` to ``end`` (exclusive). Each one predicts the next."""

    begin: int
    end: int


class Batch(NamedTuple):
    """M = number of True in ``valid``."""

    history: Tensor
    """int64 [B, T], right-padded with 0."""
    valid: Tensor
    """bool [B, T]: positions that predict something."""
    targets: Tensor
    """int64 [M]: the item after each valid position; 0 where it is not for training."""
    prefixes: Tensor
    """int64 [M]: flat position of each valid position, the row of the soft targets."""


def training_windows(dataset: Dataset, history_length: int) -> list[Window]:
    """Cut users' training parts into windows of at most ``history_length`` prefixes, from the newest backwards.

    The last prefix of a user is the whole training part: its next item is not for training, but a teacher can score it.
    """
    windows = []
    for offset, length in zip(dataset.offsets[:-1], dataset.validation_start, strict=True):
        end = int(length)
        while end > 0:
            begin = max(0, end - history_length)
            windows.append(Window(int(offset) + begin, int(offset) + end))
            end = begin
    return windows


def training_targets(dataset: Dataset) -> NDArray[np.int32]:
    """The item after each flat position where it is in the same user's training part, else 0. int32 [interactions]."""
    targets = np.full(len(dataset.items), PADDING, np.int32)
    for offset, length in zip(dataset.offsets[:-1], dataset.validation_start, strict=True):
        targets[offset : offset + max(length - 1, 0)] = dataset.items[offset + 1 : offset + max(length, 1)]
    return targets


@dataclass(frozen=True)
class Windows(TorchDataset[Window]):
    """Map-style data set of windows; ``collate`` makes a batch of several."""

    items: NDArray[np.int32]
    """int32 [P]: sequences one after another."""
    targets: NDArray[np.int32]
    """int32 [P]: the item each position predicts; 0 where none is for training."""
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
        targets = self.targets[prefixes[valid]].astype(np.int64)
        return Batch(*(torch.from_numpy(a) for a in (history, valid, targets, prefixes[valid])))


def hard_windows(dataset: Dataset, history_length: int) -> Windows:
    """Windows with a true next item at every position but the last prefix of each user."""
    return Windows(dataset.items, training_targets(dataset), training_windows(dataset, history_length))


def soft_windows(targets: SoftTargets, dataset: Dataset) -> list[Windows]:
    """What to learn from with soft targets, one for each epoch in turn: the training data, then each perturbed copy of it.

    Positions of a perturbed copy have no true item.
    """
    true_items = np.full(len(targets.sequences), PADDING, np.int32)
    true_items[: len(dataset.items)] = training_targets(dataset)
    copies = int(targets.windows[:, 2].max()) + 1
    per_copy = [[Window(*row[:2]) for row in targets.windows[targets.windows[:, 2] == copy].tolist()] for copy in range(copies)]
    return [Windows(targets.sequences, true_items, windows) for windows in per_copy]


def perturbed_copy(dataset: Dataset, history_length: int, drop_fraction: float, seed: int) -> list[NDArray[np.int32]]:
    """The newest ``history_length`` training items of each user, each left out with a probability of ``drop_fraction``.

    No model was trained on these sequences, but they are similar to the training data. The same seed gives the same copy.
    """
    random = np.random.default_rng(seed)
    sequences = []
    for user, length in enumerate(dataset.validation_start):
        sequence = dataset.sequence(user)[:length][-history_length:]
        kept = sequence[random.random(len(sequence)) >= drop_fraction]
        if len(kept):
            sequences.append(kept)
    return sequences


class LengthBatchSampler(Sampler[list[int]]):
    """Batches of windows of similar length in random order; the same seed gives the same batches.

    Args:
        lengths: int64 [windows].
        batch_size: Windows in a batch, over all processes together.
        seed: Random seed of the batch order; None keeps batches in order of length.
        rank: Number of this process, from 0.
        processes: Number of processes; each takes every ``processes``-th window of a batch.
    """

    def __init__(self, lengths: NDArray[np.int64], batch_size: int, seed: int | None, *, rank: int = 0, processes: int = 1) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.processes = processes

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.batch_size)
        # The last, smaller batch counts if it has a window for each process: all must take the same number of steps.
        return whole + (rest >= self.processes)

    def __iter__(self) -> Iterator[list[int]]:
        lengths = self.lengths.astype(np.float64)
        random = np.random.default_rng(self.seed)
        if self.seed is not None:
            # Some noise, so that batches differ between epochs.
            lengths = lengths * random.uniform(0.8, 1.2, len(lengths))
        order = np.argsort(lengths, kind="stable")
        batches = [order[i : i + self.batch_size].tolist() for i in range(0, len(order), self.batch_size)]
        if self.seed is not None:
            random.shuffle(batches)
        yield from (batch[self.rank :: self.processes] for batch in batches if len(batch) >= self.processes)
