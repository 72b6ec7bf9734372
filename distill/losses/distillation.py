"""What a student learns from soft targets: several losses, each counting as much as the settings say, when they say it."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.data.soft_targets import SoftBatch, SoftTargets
from distill.losses import on_logits, on_vectors
from distill.losses.catalogue import catalogue_loss
from distill.losses.partition import StudentLogits, split_logits
from distill.losses.stratified import stratified_ranking
from distill.losses.weighting import scheduled, teacher_confidence
from distilrec.config import DistillationConfig, Ramp

_FROM_TEACHER = ("soft", "mse", "ranking", "stratified")
_ON_VECTORS = ("hint", "relation")
_RANKING_DEPTH = 20
_RELATED_BY_DISTANCE, _RELATED_BY_ANGLE = 256, 32
"""Predictions of a batch that are compared: the costs grow with the square and the cube."""


class Lesson(NamedTuple):
    """What is to be learned from M prefixes at a point of the training."""

    true_items: Tensor
    """int64 [M], 0..N-1; anything where there is no true item."""
    soft: SoftBatch
    """Items 0..N-1 here; anything where the teacher was not asked."""
    of_truth: Tensor
    """float32 [M]: weight of the true item."""
    of_teacher: Tensor
    """float32 [M]: how far the teacher is trusted, 0 where it was not asked."""
    temperature: float
    weights: dict[str, float]
    """Of the losses that count now, by name."""


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
        """The loss summed over M predictions, and each of its parts as it is before it is weighted, summed likewise.

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
            for name, (values, weights) in self._on_logits(logits, rows, lesson).items():
                parts[name] += values.detach().sum()
                total = total + (values * weights).sum()
            return total

        reads_logits = not set(lesson.weights) <= set(_ON_VECTORS)
        loss = catalogue_loss(vectors, table, chunk_loss) if reads_logits else vectors.new_zeros(())
        for name, value in self._on_vectors(vectors, lesson).items():
            parts[name] += value.detach()
            loss = loss + lesson.weights[name] * value
        return loss, parts

    def _lesson(self, true_items: Tensor, prefixes: Tensor, progress: float) -> Lesson:
        settings = self.settings
        temperature = value_at(settings.temperature, progress)
        soft = self.targets.read(prefixes, temperature).to(true_items.device)
        asked = soft.items[:, :1] > 0
        any_items = torch.arange(soft.items.shape[1], device=asked.device)
        soft = soft._replace(items=torch.where(asked, soft.items - 1, any_items))
        has_truth, of_teacher = (true_items > 0).float(), asked[:, 0].float()
        true_items = (true_items - 1).clamp(min=0)
        weights = {name: value_at(getattr(settings, name), progress) for name in ("hard", *_FROM_TEACHER, *_ON_VECTORS)}
        of_truth = has_truth * weights["hard"]
        if settings.confidence:
            confidence = teacher_confidence(soft.items, true_items)
            of_teacher = of_teacher * torch.where(has_truth > 0, confidence, 1.0)
            # What the teacher is not trusted with is left to the true item.
            of_truth = of_truth + has_truth * (1 - of_teacher) * sum(weights[name] for name in _FROM_TEACHER)
        weights = {name: weight for name, weight in weights.items() if weight > 0 or (name == "hard" and settings.confidence)}
        return Lesson(true_items, soft, of_truth, of_teacher, temperature, weights)

    def _on_logits(self, logits: Tensor, rows: slice, lesson: Lesson) -> dict[str, tuple[Tensor, Tensor]]:
        """Values of the losses on logits, and their weights, float32 [m] both."""
        soft = lesson.soft
        items, teacher, rest = soft.items[rows], soft.logits[rows], soft.rest[rows]
        student = split_logits(logits, lesson.true_items[rows], items, lesson.temperature)
        values: dict[str, Callable[[StudentLogits], Tensor]] = {
            "hard": lambda s: on_logits.hard_cross_entropy(s.target, s.top, s.rest),
            "soft": lambda s: on_logits.softened_kl(s.top, s.soft_rest, teacher, rest, lesson.temperature),
            "mse": lambda s: on_logits.logit_mse(s.top, teacher),
            "ranking": lambda s: on_logits.listwise_ranking(s.top, s.rest, min(_RANKING_DEPTH, s.top.shape[1])),
            "stratified": lambda s: stratified_ranking(s.top, self.strata[items]),
        }
        found = {}
        for name, weight in lesson.weights.items():
            if name in values:
                each = lesson.of_truth[rows] if name == "hard" else weight * lesson.of_teacher[rows]
                found[name] = values[name](student), each
        return found

    def _on_vectors(self, vectors: Tensor, lesson: Lesson) -> dict[str, Tensor]:
        """Losses on user vectors, summed over M predictions (relations: of some, scaled up). Scalars."""
        found = {}
        features, trust = lesson.soft.features, lesson.of_teacher
        if "hint" in lesson.weights:
            assert self.projection is not None
            assert features is not None
            found["hint"] = (on_vectors.hint(self.projection(vectors), features) * trust).sum()
        if "relation" in lesson.weights:
            assert features is not None
            asked = torch.nonzero(trust > 0).flatten()
            near = asked[on_vectors.spread_rows(len(asked), _RELATED_BY_DISTANCE).to(asked.device)]
            far = asked[on_vectors.spread_rows(len(asked), _RELATED_BY_ANGLE).to(asked.device)]
            distance = on_vectors.distance_relation(vectors[near], features[near]).sum() / max(len(near), 1)
            angle = on_vectors.angle_relation(vectors[far], features[far]).sum() / max(len(far), 1)
            # As in the paper's experiments, angles count twice as much as distances.
            found["relation"] = (distance + 2 * angle) * len(asked)
        return found


def value_at(setting: float | Ramp, progress: float) -> float:
    """A setting's value at ``progress`` (0 in the first epoch, 1 in the last)."""
    return scheduled(setting.start, setting.end, progress, setting.shape) if isinstance(setting, Ramp) else setting
