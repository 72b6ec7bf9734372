"""Base classes of students, and of those that read averages of a history."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from distill.models.averages import decay_weights, decayed_averages
from distill.models.dropout import Dropout
from distill.models.encoders import Encoder
from distill.models.item_table import ItemTable, is_item

Decays = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)]
"""Setting: one decayed average of the history for each; the last one is the base that is corrected."""

DEFAULT_DECAYS = (1.0, 0.9, 0.6)


class Student(Encoder):
    """An encoder that answers an empty history with the most popular items."""

    def encode_last(self, history: Tensor) -> Tensor:
        """int64 [B, L], left-padded -> float32 [B, d]; popularity for an empty history."""
        mask = is_item(history, self.items.item_count)
        return self.popular_if_empty(self._encode_last(history, mask), mask)

    @abstractmethod
    def _encode_last(self, history: Tensor, mask: Tensor) -> Tensor:
        """User vectors after the whole history; without meaning for an empty one. int64 and bool [B, L] -> float32 [B, d]."""


class AverageStudent(Student):
    """Decayed averages of the history's item vectors: to the most recent one, a correction computed from all of them is added.

    Args:
        items: the item table, size d.
        history_length: L, longest history.
        decays: weight of an item relative to the one after it, one average for each; the last is the base.
        dropout: on user vectors.
    """

    weights: Tensor
    last_weights: Tensor

    def __init__(self, items: ItemTable, history_length: int, decays: Sequence[float], dropout: float) -> None:
        super().__init__(items)
        self.norm = nn.LayerNorm(items.embedding_size)
        self.dropout = Dropout(dropout)
        weights = decay_weights(history_length, [*decays, 0.0])
        self.register_buffer("weights", weights, persistent=False)
        # A copy, so that the exported graph holds these alone.
        self.register_buffer("last_weights", weights[-1:].clone(), persistent=False)

    def encode_all(self, history: Tensor) -> Tensor:
        """int64 [B, T], right-padded -> float32 [B, T, d]."""
        length = history.shape[1]
        mask = is_item(history, self.items.item_count)
        return self._encode(history, mask, self.weights[-length:, :, -length:])

    def _encode_last(self, history: Tensor, mask: Tensor) -> Tensor:
        return self._encode(history, mask, self.last_weights[:, :, -history.shape[1] :])[:, 0]

    def _encode(self, history: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
        averages = decayed_averages(self.items.embed(history), mask, weights)  # (B, T, A, d)
        base = averages[:, :, -2]  # the last of the decays; -1 is the last item
        user_vectors: Tensor = self.dropout(self.norm(base + self._correction(averages.flatten(2))))
        return user_vectors

    @abstractmethod
    def _correction(self, averages: Tensor) -> Tensor:
        """Addition to the base. float32 [B, T, A * d] -> [B, T, d]."""
