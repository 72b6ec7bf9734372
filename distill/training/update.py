"""Further training of a student on new events and a replay, with the former student as a teacher on the replay.

This is ADER (Mi et al. 2020, arXiv:2007.12000) with sequences as exemplars, true items on the replay, too, and any student.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.data.replay import UpdateWindows
from distill.data.soft_targets import SoftTargets
from distill.losses.distillation import Distillation
from distill.losses.negatives import drawn_items
from distill.models.encoders import Encoder, Scorer
from distill.training.fit import FitResult, fit
from distill.training.loggers import Logging
from distill.training.teacher_inference import write_window_targets
from distilrec.config import DistillationConfig, TargetsConfig, TrainingConfig
from distilrec.core.specs import RecommenderSpec
from distilrec.data.dataset import Dataset


@dataclass(frozen=True)
class UpdateMaterial:
    """What an update learns from."""

    dataset: Dataset
    """Users with new events; those of its validation split stop the training."""
    windows: UpdateWindows
    counts: NDArray[np.int64]
    """int64 [N + 1]: training interactions of each item so far."""
    targets: SoftTargets | None
    """Soft targets of the former student on the replay; None without."""
    weight: float
    """Weight of these soft targets, next to that of the true items, which is 1."""


def write_replay_targets(former: Scorer, windows: UpdateWindows, folder: Path, settings: TargetsConfig) -> int:
    """Score the replay with the former student and write a folder of soft targets; returns the number of scored positions."""
    both = windows.both.windows
    return write_window_targets(former, windows.replay, folder, windows=np.pad(both, ((0, 0), (0, 1))), settings=settings)


def replay_settings(settings: TargetsConfig) -> TargetsConfig:
    """What is kept of the former student's scores: as many items as of a teacher's, at temperature 1."""
    return TargetsConfig(top_n=settings.top_n, temperatures=(1.0,), batch_size=settings.batch_size)


def fit_update(
    encoder: Encoder,
    material: UpdateMaterial,
    spec: RecommenderSpec,
    config: TrainingConfig,
    *,
    seed: int,
    scratch: Path,
    log: Logging | None = None,
) -> FitResult:
    """Train ``encoder`` further in place; arguments as in ``distill.training.fit.fit``.

    Items without any training interaction keep their vectors: nothing could be learned of them but that they were not chosen.
    """
    start = encoder.items.learned.detach().clone()
    untouched = torch.from_numpy(np.flatnonzero(material.counts[1:] == 0) + 1)
    result = fit(
        encoder,
        material.dataset,
        spec,
        config,
        seed=seed,
        scratch=scratch,
        distillation=_distillation(encoder, material, config),
        log=log,
        windows=[material.windows.both],
    )
    with torch.no_grad():
        encoder.items.learned[untouched] = start[untouched]
    return result


def _distillation(encoder: Encoder, material: UpdateMaterial, config: TrainingConfig) -> Distillation | None:
    if material.targets is None:
        return None
    counts: Tensor = torch.from_numpy(material.counts)
    losses = DistillationConfig.model_validate({"hard": 1.0, "soft": material.weight})
    negatives = drawn_items(config.negatives, encoder.item_count)
    return Distillation(losses, material.targets, counts, encoder.items.embedding_size, negatives)
