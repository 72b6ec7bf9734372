"""What a student learns from soft targets: several losses, each counting as much as the settings say, when they say it."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill import feature_losses, losses
from distill.catalogue import catalogue_loss
from distill.confidence import teacher_confidence
from distill.soft_targets import SoftBatch, SoftTargets
from distilrec.config import DistillationConfig, Ramp

_ON_LOGITS = ("hard", "soft", "mse", "ranking", "stratified")
_ON_VECTORS = ("hint", "relation")


class Lesson(NamedTuple):
    """What is to be learned from M prefixes at a point of the training."""

    true_items: Tensor
    """int64 [M], 0..N-1; anything where ``has_truth`` is 0."""
    has_truth: Tensor
    """float32 [M], 1 where the true next item is for training."""
    soft: SoftBatch
    """Items 0..N-1 here."""
    trust: Tensor
    """float32 [M]: share of the teacher's losses that counts; the rest goes to the true item."""
    temperature: float
    weights: dict[str, float]
    """Of the losses that count now."""


class Distillation(nn.Module):
    """Soft targets and how to learn from them.

    Args:
        settings: weights, temperature, confidence.
        targets: a teacher's soft targets.
        strata: int64 [N], the popularity group of each item.
        user_vector_size: d of the student, for the hint's projection.
    """

    strata: Tensor

    def __init__(self, settings: DistillationConfig, targets: SoftTargets, strata: Tensor, user_vector_size: int) -> None:
        super().__init__()
        self.settings = settings
        self.targets = targets
        self.register_buffer("strata", strata, persistent=False)
        features = targets.features
        self.projection = nn.Linear(user_vector_size, features.shape[1]) if features is not None and settings.hint != 0 else None

    def forward(
        self, vectors: Tensor, table: Tensor, true_items: Tensor, prefixes: Tensor, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss summed over M predictions, and each of its parts summed before it was weighted.

        Args:
            vectors: float32 [M, d], the student's user vectors.
            table: float32 [N, d], its item vectors.
            true_items: int64 [M], 1..N; 0 where the true next item is not for training.
            prefixes: int64 [M], rows of the soft targets.
            progress: 0 in the first epoch, 1 in the last.
        """
        lesson = self._lesson(true_items, prefixes, progress)
        parts = {name: vectors.new_zeros(()) for name in lesson.weights}

        def chunk_loss(logits: Tensor, rows: slice) -> Tensor:
            total = logits.new_zeros(())
            for name, (values, weights) in self._losses_on_logits(logits, rows, lesson).items():
                parts[name] += values.detach().sum()
                total = total + (values * weights).sum()
            return total

        loss = catalogue_loss(vectors, table, chunk_loss)
        for name, values in self._losses_on_vectors(vectors, lesson).items():
            parts[name] += values.detach().sum()
            loss = loss + lesson.weights[name] * values.sum()
        return loss, parts

    def _lesson(self, true_items: Tensor, prefixes: Tensor, progress: float) -> Lesson:
        settings = self.settings
        temperature = value_at(settings.temperature, progress)
        soft = self.targets.read(prefixes, temperature).to(true_items.device)
        soft = soft._replace(items=soft.items - 1)
        has_truth = (true_items > 0).float()
        true_items = (true_items - 1).clamp(min=0)
        trust = torch.ones_like(has_truth)
        if settings.confidence:
            trust = torch.where(has_truth > 0, teacher_confidence(soft.items, true_items), trust)
        weights = {name: value_at(getattr(settings, name), progress) for name in (*_ON_LOGITS, *_ON_VECTORS)}
        return Lesson(true_items, has_truth, soft, trust, temperature, {n: w for n, w in weights.items() if w > 0})

    def _losses_on_logits(self, logits: Tensor, rows: slice, lesson: Lesson) -> dict[str, tuple[Tensor, Tensor]]:
        """Values and weights of each loss, float32 [m] both."""
        found: dict[str, tuple[Tensor, Tensor]] = {}
        soft, trust, weights = lesson.soft, lesson.trust[rows], lesson.weights
        items, teacher = soft.items[rows], soft.logits[rows]
        distilled = sum(weight for name, weight in weights.items() if name not in ("hard", *_ON_VECTORS))
        shared = torch.logsumexp(logits, dim=1) if lesson.temperature == 1 or "hard" in weights else None
        hard = (weights.get("hard", 0.0) + (1 - trust) * distilled) * lesson.has_truth[rows]
        if "hard" in weights:
            found["hard"] = losses.hard_cross_entropy(logits, lesson.true_items[rows], log_partition=shared), hard
        if "soft" in weights:
            log_partition = shared if lesson.temperature == 1 else None
            values = losses.softened_kl(
                logits, items, teacher, soft.rest[rows], lesson.temperature, log_partition=log_partition
            )
            found["soft"] = values, weights["soft"] * trust
        others: dict[str, Callable[[], Tensor]] = {
            "mse": lambda: losses.logit_mse(logits, items, teacher),
            "ranking": lambda: losses.listwise_ranking(logits, items),
            "stratified": lambda: losses.stratified_ranking(logits, items, self.strata),
        }
        for name, values_of in others.items():
            if name in weights:
                found[name] = values_of(), weights[name] * trust
        return found

    def _losses_on_vectors(self, vectors: Tensor, lesson: Lesson) -> dict[str, Tensor]:
        found = {}
        features = lesson.soft.features
        if "hint" in lesson.weights:
            assert self.projection is not None
            assert features is not None
            found["hint"] = feature_losses.hint(self.projection(vectors), features)
        if "relation" in lesson.weights:
            assert features is not None
            found["relation"] = feature_losses.relation(vectors, features)
        return found


def value_at(setting: float | Ramp, progress: float) -> float:
    """A setting's value at ``progress`` (0 in the first epoch, 1 in the last)."""
    if not isinstance(setting, Ramp):
        return setting
    share = progress if setting.shape == "linear" else (1 - math.cos(math.pi * progress)) / 2
    return setting.start + share * (setting.end - setting.start)
