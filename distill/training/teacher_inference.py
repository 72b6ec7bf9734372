"""Soft targets of trained teachers for all training prefixes, and their mixtures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from distill.data.indices import columns_of
from distill.data.sequences import LengthBatchSampler, Windows, perturbed_copy, training_windows
from distill.data.soft_targets import SoftTargets, SoftTargetWriter
from distill.models.encoders import Encoder, Scorer
from distill.models.teachers.prefix_encoder import newest_positions
from distilrec.config import TargetsConfig
from distilrec.core.progress import progress
from distilrec.core.specs import PADDING
from distilrec.data.dataset import Dataset

_SCORES_AT_ONCE = 1 << 24


def sequences_to_score(
    dataset: Dataset, history_length: int, settings: TargetsConfig, seed: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The training data and its perturbed copies: sequences int32 [P] and windows int64 [W, 3] (``soft_targets``)."""
    parts, windows = [dataset.items], [_of_copy(training_windows(dataset, history_length), 0)]
    copies = 0 if settings.perturbed_copies == "auto" else settings.perturbed_copies  # Config.soft_targets has the number
    for copy in range(1, copies + 1):
        sequences, lengths = perturbed_copy(dataset, history_length, settings.drop_fraction, seed + copy)
        ends = sum(map(len, parts)) + np.cumsum(lengths)
        windows.append(_of_copy(np.stack([ends - lengths, ends], axis=1), copy))
        parts.append(sequences)
    return np.concatenate(parts), np.concatenate(windows)


def _of_copy(windows: NDArray[np.int64], copy: int) -> NDArray[np.int64]:
    """Windows with the number of the copy that they are of. int64 [W, 2] -> [W, 3]."""
    return np.pad(windows, ((0, 0), (0, 1)), constant_values=copy)


@torch.inference_mode()
def write_soft_targets(
    teacher: Scorer,
    dataset: Dataset,
    folder: Path,
    *,
    history_length: int,
    settings: TargetsConfig,
    seed: int,
    newest: int | None = None,
) -> int:
    """Score training prefixes and write a folder of soft targets; returns the number of scored prefixes.

    Args:
        teacher: Teacher in evaluation mode.
        dataset: Data set whose training part is scored.
        folder: Existing folder.
        history_length: L, longest window.
        settings: What is kept, and how many perturbed copies are scored, too.
        seed: Random seed of the perturbed copies.
        newest: Newest prefixes of each window that are scored; items are 0 in the rows of the others. None for all.
    """
    sequences, windows = sequences_to_score(dataset, history_length, settings, seed)
    scored = Windows(sequences, np.full(len(sequences), PADDING, np.int32), windows[:, :2])
    return write_window_targets(teacher, scored, folder, windows=windows, settings=settings, newest=newest)


@torch.inference_mode()
def write_window_targets(
    teacher: Scorer,
    scored: Windows,
    folder: Path,
    *,
    windows: NDArray[np.int64],
    settings: TargetsConfig,
    newest: int | None = None,
) -> int:
    """Score the positions of some windows and write a folder of soft targets; returns the number of scored positions.

    Args:
        teacher: Teacher in evaluation mode.
        scored: Windows whose positions are scored. Rows of other positions have items of 0.
        folder: Existing folder.
        windows: int64 [W, 3], all windows of the folder (``soft_targets``).
        settings: What is kept.
        newest: As in ``write_soft_targets``.
    """
    features = teacher.items.embedding_size if settings.features and isinstance(teacher, Encoder) else None
    sampler = LengthBatchSampler(scored.lengths, settings.batch_size, None)
    device = next((parameter.device for parameter in teacher.parameters()), torch.device("cpu"))
    loader = DataLoader(scored, batch_sampler=sampler, collate_fn=scored.collate)
    count = 0
    with SoftTargetWriter(folder, scored.items, windows, settings, teacher.item_count, feature_size=features) as writer:
        for batch in progress(loader, desc="soft targets", unit="batch"):
            positions = batch.valid if newest is None else newest_positions(batch.valid, newest)
            history, valid = batch.history.to(device), positions.to(device)
            if isinstance(teacher, Encoder):
                vectors = teacher.encode_prefixes(history, valid)
                scores = teacher.score_vectors(vectors)
            else:
                vectors, scores = None, teacher.score_prefixes(history, valid)
            writer.write(batch.prefixes[positions[batch.valid]].numpy(), scores, vectors)
            count += len(scores)
    return count


@torch.inference_mode()
def mix_soft_targets(
    caches: Sequence[SoftTargets],
    weights: Sequence[float],
    item_count: int,
    folder: Path,
    settings: TargetsConfig,
    *,
    sharpness: float = 1.0,
) -> int:
    """Write the weighted mean of several teachers' log-probabilities; what is outside a teacher's top n shares its rest evenly.

    All caches hold the same windows. Only the teachers that scored a prefix count for it. Returns the number of prefixes with soft
    targets.

    Args:
        caches: Soft targets of each teacher.
        weights: Weight of each teacher; they need not sum to 1.
        item_count: N.
        folder: Existing folder.
        settings: What is kept.
        sharpness: Factor of the mean: 1 / T of the mixture.
    """
    first = caches[0]
    rows = np.concatenate([np.arange(begin, end) for begin, end, _ in first.windows])
    rows = rows[np.any([cache.items[rows, 0] != PADDING for cache in caches], axis=0)]
    step = max(1, _SCORES_AT_ONCE // item_count)
    with SoftTargetWriter(folder, first.sequences, first.windows, settings, item_count) as writer:
        for start in progress(range(0, len(rows), step), desc="mixing soft targets", unit="batch"):
            chunk = rows[start : start + step]
            mixed = mixed_log_probabilities(caches, weights, torch.from_numpy(chunk), item_count)
            writer.write(chunk, mixed if sharpness == 1.0 else mixed * sharpness)
    return len(rows)


def mixed_log_probabilities(caches: Sequence[SoftTargets], weights: Sequence[float], prefixes: Tensor, item_count: int) -> Tensor:
    """Weighted mean of the caches' log-probabilities over the catalogue. int64 [M] -> float32 [M, N].

    At least one teacher scored each prefix.
    """
    mixed, total = torch.zeros(len(prefixes), item_count), torch.zeros(len(prefixes), 1)
    for cache, weight in zip(caches, weights, strict=True):
        soft = cache.read(prefixes)
        outcomes = torch.cat([soft.logits, soft.rest[:, None]], dim=1).log_softmax(dim=1)
        others = max(item_count - soft.items.shape[1], 1)
        outside = outcomes[:, -1:] - np.log(others)
        share = weight * (soft.items[:, :1] != PADDING)  # (M, 1)
        log_probabilities = outside.repeat(1, item_count).scatter_(1, columns_of(soft.items), outcomes[:, :-1])
        mixed += share * log_probabilities
        total += share
    return mixed / total
