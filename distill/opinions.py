"""Asking teachers about every training prefix, and mixing what several of them said."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from distill.encoders import Encoder, Scorer
from distill.sequences import LengthBatchSampler, Window, Windows, perturbed_copy, training_windows
from distill.soft_targets import SoftTargets, SoftTargetWriter
from distilrec.config import TargetsConfig
from distilrec.data.dataset import Dataset
from distilrec.progress import progress
from distilrec.specs import PADDING

_SCORES_AT_ONCE = 1 << 24


def sequences_to_ask_about(
    dataset: Dataset, history_length: int, settings: TargetsConfig, seed: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The training data and its perturbed copies: sequences int32 [P] and windows int64 [W, 3] (``soft_targets``)."""
    parts, end = [dataset.items], len(dataset.items)
    windows = [(*window, 0) for window in training_windows(dataset, history_length)]
    for copy in range(1, settings.perturbed_copies + 1):
        for sequence in perturbed_copy(dataset, history_length, settings.drop_fraction, seed + copy):
            windows.append((end, end + len(sequence), copy))
            parts.append(sequence)
            end += len(sequence)
    return np.concatenate(parts), np.array(windows, np.int64)


@torch.inference_mode()
def write_targets(
    teacher: Scorer, dataset: Dataset, folder: Path, *, history_length: int, settings: TargetsConfig, seed: int
) -> int:
    """Ask ``teacher`` about all prefixes and write a folder of soft targets; returns how many prefixes it holds."""
    sequences, windows = sequences_to_ask_about(dataset, history_length, settings, seed)
    asked = Windows(sequences, np.full(len(sequences), PADDING, np.int32), [Window(*row[:2]) for row in windows.tolist()])
    features = teacher.items.embedding_size if settings.features and isinstance(teacher, Encoder) else None
    sampler = LengthBatchSampler(asked.lengths, settings.batch_size, None)
    device = next((parameter.device for parameter in teacher.parameters()), torch.device("cpu"))
    loader = DataLoader(asked, batch_sampler=sampler, collate_fn=asked.collate)
    with SoftTargetWriter(folder, sequences, windows, settings, teacher.item_count, feature_size=features) as writer:
        for batch in progress(loader, desc="soft targets", unit="batch"):
            history, valid = batch.history.to(device), batch.valid.to(device)
            vectors = teacher.encode_all(history)[valid] if features and isinstance(teacher, Encoder) else None
            writer.write(batch.prefixes.numpy(), teacher.score_prefixes(history, valid), vectors)
    return int(asked.lengths.sum())


@torch.inference_mode()
def mix_targets(
    caches: Sequence[SoftTargets], weights: Sequence[float], item_count: int, folder: Path, settings: TargetsConfig
) -> int:
    """Write the weighted mean of several teachers' log-probabilities; what is outside a teacher's top n shares its rest evenly.

    All caches hold the same prefixes. Weights need not sum to 1. Returns how many prefixes the new folder holds.
    """
    first = caches[0]
    rows = np.concatenate([np.arange(begin, end) for begin, end, _ in first.windows])
    step = max(1, _SCORES_AT_ONCE // item_count)
    with SoftTargetWriter(folder, first.sequences, first.windows, settings, item_count) as writer:
        for start in progress(range(0, len(rows), step), desc="mixing soft targets", unit="batch"):
            some = rows[start : start + step]
            writer.write(some, mixed_log_probabilities(caches, weights, torch.from_numpy(some), item_count))
    return len(rows)


def mixed_log_probabilities(caches: Sequence[SoftTargets], weights: Sequence[float], prefixes: Tensor, item_count: int) -> Tensor:
    """Weighted mean of the caches' log-probabilities over the catalogue. int64 [M] -> float32 [M, N]."""
    mixed = torch.zeros(len(prefixes), item_count)
    for cache, weight in zip(caches, weights, strict=True):
        soft = cache.read(prefixes)
        outcomes = torch.cat([soft.logits, soft.rest[:, None]], dim=1).log_softmax(dim=1)
        others = max(item_count - soft.items.shape[1], 1)
        outside = outcomes[:, -1:] - np.log(others)
        share = weight / sum(weights)
        mixed += share * outside
        mixed.scatter_add_(1, soft.items - 1, share * (outcomes[:, :-1] - outside))
    return mixed
