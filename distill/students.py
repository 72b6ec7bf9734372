"""Students: small encoders that answer in milliseconds."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from distill.averages import decay_weights, decayed_averages
from distill.encoders import Encoder
from distill.item_table import ItemTable, is_item


class MlpStudent(Encoder):
    """An MLP over decayed averages of the history's item vectors and the last item, added to the most recent average.

    Args:
        items: the item table, size d; its first coordinate is popularity (``ItemTable``).
        history_length: L, longest history.
        hidden_size: of the MLP's hidden layer.
        decays: weight of an item relative to the one after it, one average for each; the last is the base.
        dropout: on inputs, hidden layer and user vectors.
    """

    weights: Tensor
    last_weights: Tensor
    cold_start: Tensor

    def __init__(self, items: ItemTable, history_length: int, hidden_size: int, decays: Sequence[float], dropout: float) -> None:
        super().__init__(items)
        size = items.embedding_size
        self.mlp = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear((len(decays) + 1) * size, hidden_size),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, size),
        )
        self.norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout)
        weights = decay_weights(history_length, [*decays, 0.0])
        self.register_buffer("weights", weights, persistent=False)
        # A copy, so that the exported graph holds these alone.
        self.register_buffer("last_weights", weights[-1:].clone(), persistent=False)
        cold_start = torch.zeros(size)
        cold_start[0] = 1.0  # scores are then the popularity coordinate
        self.register_buffer("cold_start", cold_start, persistent=False)

    def encode_all(self, history: Tensor) -> Tensor:
        """int64 [B, T], right-padded -> float32 [B, T, d]."""
        length = history.shape[1]
        mask = is_item(history, self.items.item_count)
        return self._encode(history, mask, self.weights[-length:, :, -length:])

    def encode_last(self, history: Tensor) -> Tensor:
        """int64 [B, L], left-padded -> float32 [B, d]; popularity for an empty history."""
        mask = is_item(history, self.items.item_count)
        vectors = self._encode(history, mask, self.last_weights)[:, 0]
        return torch.where(mask.any(dim=1, keepdim=True), vectors, self.cold_start)

    def _encode(self, history: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
        vectors = nn.functional.embedding(history, self.items())
        averages = decayed_averages(vectors, mask, weights)  # (B, T, A, d)
        base = averages[:, :, -2]  # the last of the decays; -1 is the last item
        user_vectors: Tensor = self.dropout(self.norm(base + self.mlp(averages.flatten(2))))
        return user_vectors
