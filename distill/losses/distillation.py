"""What a student learns from soft targets: the losses that its settings name, each with its weight at that time."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.data.indices import columns_of
from distill.data.soft_targets import SoftBatch, SoftTargets
from distill.losses._base import LogitLoss, LossSetup, TeacherLogits, VectorLoss
from distill.losses.catalogue import catalogue_loss, sample_loss
from distill.losses.negatives import columns_in_sample, draw_candidates, own_logits, split_sample
from distill.losses.partition import StudentLogits, split_logits
from distill.losses.weighting import scheduled, teacher_confidence
from distilrec.config import DistillationConfig, Ramp


class BatchTargets(NamedTuple):
    """What M predictions learn from at a point of the training."""

    true_items: Tensor
    """int64 [M], 1..N; 0 where there is no true item."""
    soft: SoftBatch
    """Soft targets; where the teacher has none, ``soft.items`` holds any items."""
    trust: Tensor
    """float32 [M]: how far the teacher is trusted, 0 where it has no soft targets."""
    temperature: float
    """T."""
    weights: dict[str, float]
    """Weights of the losses that count now, by name."""


class Distillation(nn.Module):
    """Soft targets and how to learn from them.

    Args:
        settings: Losses, temperature, confidence.
        targets: Soft targets of a teacher.
        item_counts: int64 [N + 1], training interactions by item index.
        user_vector_size: d of the student's user vectors.
        negatives: Drawn items of a sampled softmax; None for the whole catalogue. It needs T = 1.
    """

    def __init__(
        self,
        settings: DistillationConfig,
        targets: SoftTargets,
        item_counts: Tensor,
        user_vector_size: int,
        negatives: int | None = None,
    ) -> None:
        super().__init__()
        self.negatives = negatives
        self.settings = settings
        self.targets = targets
        losses = settings.losses.items()
        self.on_logits = {name: loss for name, loss in losses if isinstance(loss, LogitLoss) and self._counts(loss)}
        self.on_vectors = {name: loss for name, loss in losses if isinstance(loss, VectorLoss) and loss.is_on}
        features = targets.features
        setup = LossSetup(item_counts, user_vector_size, None if features is None else features.shape[1])
        every: dict[str, LogitLoss | VectorLoss] = {**self.on_logits, **self.on_vectors}
        self.states = nn.ModuleDict({name: loss.state(setup) for name, loss in every.items()})

    def forward(
        self,
        vectors: Tensor,
        table: Tensor,
        true_items: Tensor,
        prefixes: Tensor,
        progress: float,
        *,
        example_weights: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss summed over M predictions, and each of its parts before it is weighted, summed likewise.

        Args:
            vectors: float32 [M, d], user vectors of the student.
            table: float32 [N, d], vectors of items 1..N.
            true_items: int64 [M], 1..N; 0 where the true next item is not for training.
            prefixes: int64 [M], rows of the soft targets.
            progress: Share of the training that is done: 0 in the first epoch, 1 in the last.
            example_weights: float32 [M], what each prediction counts; None counts all alike.
        """
        batch = self._batch_targets(true_items, prefixes, progress)
        parts = {name: vectors.new_zeros(()) for name in batch.weights}
        loss = self._add_logit_losses(vectors, table, batch, parts, example_weights)
        trust = batch.trust if example_weights is None else batch.trust * example_weights
        for name, declared in self.on_vectors.items():
            if name in batch.weights:
                assert batch.soft.features is not None
                value = declared.value(vectors, batch.soft.features, trust, self.states[name])
                parts[name] += value.detach()
                loss = loss + batch.weights[name] * value
        return loss, parts

    def _batch_targets(self, true_items: Tensor, prefixes: Tensor, progress: float) -> BatchTargets:
        temperature = value_at(self.settings.temperature, progress)
        soft = self.targets.read(prefixes, temperature).to(true_items.device)
        scored = soft.items[:, :1] > 0
        any_items = torch.arange(1, soft.items.shape[1] + 1, device=scored.device)
        trust = scored[:, 0].float()
        if self.settings.confidence:
            confidence = teacher_confidence(soft.items, true_items)
            trust = trust * torch.where(true_items > 0, confidence, 1.0)
        soft = soft._replace(items=torch.where(scored, soft.items, any_items))
        weights = {name: value_at(self.settings.losses[name].weight, progress) for name in self.states}
        weights = {name: weight for name, weight in weights.items() if weight > 0 or self._takes_distrusted_weight(name)}
        return BatchTargets(true_items, soft, trust, temperature, weights)

    def _add_logit_losses(
        self, vectors: Tensor, table: Tensor, batch: BatchTargets, parts: dict[str, Tensor], example_weights: Tensor | None
    ) -> Tensor:
        """Weighted sum of the losses on logits; each one's own sum is added to ``parts``."""
        weights = self._prediction_weights(batch)
        if example_weights is not None:
            weights = {name: of_predictions * example_weights for name, of_predictions in weights.items()}
        if not weights:
            return vectors.new_zeros(())

        def summed(student: StudentLogits, rows: slice) -> Tensor:
            teacher = TeacherLogits(batch.soft.items[rows], batch.soft.logits[rows], batch.soft.rest[rows], batch.temperature)
            total = student.target.new_zeros(())
            for name, of_predictions in weights.items():
                values = self.on_logits[name].values(student, teacher, self.states[name])
                parts[name] += values.detach().sum()
                total = total + (values * of_predictions[rows]).sum()
            return total

        if self.negatives is None:
            return _over_catalogue(vectors, table, batch, summed)
        return _over_sample(vectors, table, batch, summed, self.negatives)

    def _prediction_weights(self, batch: BatchTargets) -> dict[str, Tensor]:
        """Weight of each prediction in each loss on logits that counts now, float32 [M]."""
        has_truth = (batch.true_items > 0).float()
        active = {name: loss for name, loss in self.on_logits.items() if name in batch.weights}
        distrusted = sum(batch.weights[name] for name, loss in active.items() if loss.follows == "teacher")
        weights = {}
        for name, loss in active.items():
            weights[name] = batch.weights[name] * (batch.trust if loss.follows == "teacher" else has_truth)
            if self._takes_distrusted_weight(name):
                # The true item gets the weight that the teacher loses.
                weights[name] = weights[name] + has_truth * (1 - batch.trust) * distrusted
        return weights

    def _takes_distrusted_weight(self, name: str) -> bool:
        """Whether a loss also counts as far as the teacher does not: with ``confidence``, or where it has no weight of its own."""
        loss = self.on_logits.get(name)
        return loss is not None and loss.takes_distrusted_weight and (self.settings.confidence or not loss.is_on)

    @staticmethod
    def _counts(loss: LogitLoss) -> bool:
        return loss.is_on or loss.takes_distrusted_weight


_SplitLoss = Callable[[StudentLogits, slice], Tensor]
"""Logits of a student for some predictions, and which of the M they are -> their summed loss, a scalar."""


def _over_catalogue(vectors: Tensor, table: Tensor, batch: BatchTargets, loss: _SplitLoss) -> Tensor:
    """Sum of ``loss`` over all predictions, the whole catalogue scored."""

    def chunk_loss(logits: Tensor, rows: slice) -> Tensor:
        return loss(split_logits(logits, batch.true_items[rows], batch.soft.items[rows], batch.temperature), rows)

    return catalogue_loss(vectors, table, chunk_loss)


def _over_sample(vectors: Tensor, table: Tensor, batch: BatchTargets, loss: _SplitLoss, negatives: int) -> Tensor:
    """As ``_over_catalogue`` at T = 1, where the mass outside the teacher's items is estimated from a sample of the catalogue."""
    candidates = draw_candidates(batch.true_items[batch.true_items > 0], len(table), negatives)
    targets = columns_in_sample(candidates, batch.true_items, len(table))
    items = columns_in_sample(candidates, batch.soft.items, len(table))

    def chunk_loss(logits: Tensor, own: Tensor, rows: slice) -> Tensor:
        return loss(split_sample(logits + candidates.correction, own, targets[rows], items[rows]), rows)

    own = own_logits(vectors, table, batch.soft.items)
    return sample_loss(vectors, table[columns_of(candidates.items)], own, chunk_loss)


def value_at(setting: float | Ramp, progress: float) -> float:
    """Value of a setting at ``progress`` (0 in the first epoch, 1 in the last)."""
    return scheduled(setting.start, setting.end, progress, setting.shape) if isinstance(setting, Ramp) else setting
