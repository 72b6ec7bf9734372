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


def training_windows(dataset: Dataset, history_length: int) -> NDArray[np.int64]:
    """Cut users' training parts into windows of at most ``history_length`` prefixes, from the newest backwards.

    The last prefix of a user is the whole training part: its next item is not for training, but a teacher can score it.

    Returns:
        int64 [W, 2]: flat positions, begin and end (exclusive) of consecutive interactions, each of which predicts the next.
    """
    lengths = dataset.validation_start
    windows = -(-lengths // history_length)  # of each user
    user = np.repeat(np.arange(dataset.user_count), windows)
    newer = np.arange(len(user)) - np.repeat(np.cumsum(windows) - windows, windows)  # windows of the same user that come before
    ends = lengths[user] - newer * history_length
    windows_in_user: NDArray[np.int64] = np.stack([np.maximum(ends - history_length, 0), ends], axis=1)
    return dataset.offsets[user][:, None] + windows_in_user


def training_targets(dataset: Dataset) -> NDArray[np.int32]:
    """The item after each flat position where it is in the same user's training part, else 0. int32 [interactions]."""
    targets = np.append(dataset.items[1:], np.int32(PADDING))
    targets[~_training_positions(dataset, dataset.validation_start - 1)] = PADDING
    return targets


def _training_positions(dataset: Dataset, ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mask of the flat positions that come before ``ends`` (int64 [users]) in their user's sequence. bool [interactions]."""
    lengths = np.diff(dataset.offsets)
    return np.arange(len(dataset.items)) < np.repeat(dataset.offsets[:-1] + ends, lengths)


@dataclass(frozen=True)
class Windows(TorchDataset[NDArray[np.int64]]):
    """Map-style data set of windows; ``collate`` makes a batch of several."""

    items: NDArray[np.int32]
    """int32 [P]: sequences one after another."""
    targets: NDArray[np.int32]
    """int32 [P]: the item each position predicts; 0 where none is for training."""
    windows: NDArray[np.int64]
    """int64 [W, 2]: begin and end of each, as ``training_windows`` cuts them."""

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        window: NDArray[np.int64] = self.windows[index]
        return window

    def __getitems__(self, indices: list[int]) -> NDArray[np.int64]:
        """The windows of a batch at once; PyTorch's loader asks for it."""
        return self.windows[indices]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 [W]."""
        lengths: NDArray[np.int64] = self.windows[:, 1] - self.windows[:, 0]
        return lengths

    def collate(self, windows: NDArray[np.int64] | list[NDArray[np.int64]]) -> Batch:
        """Right-pad B windows (int64 [B, 2]) to the longest of them."""
        begins, ends = np.asarray(windows).T
        lengths = ends - begins
        ages = np.arange(lengths.max())
        valid = ages < lengths[:, None]
        prefixes = np.where(valid, begins[:, None] + ages, begins[:, None])
        history = np.where(valid, self.items[prefixes], PADDING).astype(np.int64)
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
    copy = targets.windows[:, 2]
    return [Windows(targets.sequences, true_items, targets.windows[copy == number, :2]) for number in range(int(copy.max()) + 1)]


def perturbed_copy(
    dataset: Dataset, history_length: int, drop_fraction: float, seed: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The newest ``history_length`` training items of each user, each left out with a probability of ``drop_fraction``.

    No model was trained on these sequences, but they are similar to the training data. The same seed gives the same copy.

    Returns:
        int32 [S], the sequences one after another, and int64 [C], the lengths of those that are not empty.
    """
    ends = dataset.validation_start
    newest = _training_positions(dataset, ends) & ~_training_positions(dataset, np.maximum(ends - history_length, 0))
    kept = np.flatnonzero(newest)
    kept = kept[np.random.default_rng(seed).random(len(kept)) >= drop_fraction]
    lengths = np.diff(np.searchsorted(kept, dataset.offsets))
    return dataset.items[kept], lengths[lengths > 0]


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
