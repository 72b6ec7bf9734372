"""Students: small encoders that answer in milliseconds."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from distill.item_table import ItemTable, is_item


class MlpStudent(nn.Module):
    """An MLP over decayed averages of the history's item vectors and the last item, added to the most recent average.

    Args:
        items: the item table, size d; its first coordinate is popularity (``ItemTable``).
        history_length: L, longest history.
        hidden_size: of the MLP's hidden layer.
        decays: weight of an item relative to the one after it, one average for each; the last is the base.
        dropout: on inputs, hidden layer and user vectors.
    """

    def __init__(
        self, items: ItemTable, history_length: int, hidden_size: int, decays: Sequence[float], dropout: float
    ) -> None:
        super().__init__()
        self.items = items
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
        self.register_buffer("weights", decay_weights(history_length, [*decays, 0.0]), persistent=False)
        cold_start = torch.zeros(size)
        cold_start[0] = 1.0  # scores are then the popularity coordinate
        self.register_buffer("cold_start", cold_start, persistent=False)

    def encode_all(self, history: Tensor) -> Tensor:
        """int64 [B, T], right-padded -> float32 [B, T, d]."""
        length = history.shape[1]
        mask = is_item(history, self.items.item_count)
        return self._encode(history, mask, self.weights[-length:, :, -length:])  # type: ignore[index]

    def encode_last(self, history: Tensor) -> Tensor:
        """int64 [B, L], left-padded -> float32 [B, d]; popularity for an empty history."""
        mask = is_item(history, self.items.item_count)
        vectors = self._encode(history, mask, self.weights[-1:])[:, 0]  # type: ignore[index]
        return torch.where(mask.any(dim=1, keepdim=True), vectors, self.cold_start)  # type: ignore[arg-type]

    def _encode(self, history: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
        """``weights`` float32 [T, A, S]: how much history position s counts in average a for output position t."""
        positions, averages, length = weights.shape
        flat = weights.reshape(positions * averages, length)
        present = mask.to(flat.dtype).unsqueeze(2)  # (B, S, 1)
        vectors = nn.functional.embedding(history, self.items()) * present
        sums = torch.matmul(flat, vectors)  # (B, T * A, d)
        totals = torch.matmul(flat, present)  # (B, T * A, 1)
        means = (sums / totals.clamp(min=1e-6)).unflatten(1, (positions, averages))  # (B, T, A, d)
        base = means[:, :, -2]  # the last of the decays; -1 is the last item
        user_vectors: Tensor = self.dropout(self.norm(base + self.mlp(means.flatten(2))))
        return user_vectors


def decay_weights(length: int, decays: Sequence[float]) -> Tensor:
    """float32 [length, len(decays), length]: decay ** (t - s) for s <= t, else 0; decay 0 picks position t alone."""
    age = torch.arange(length)[:, None] - torch.arange(length)[None, :]  # (t, s)
    weights = torch.stack([torch.tensor(decay) ** age.clamp(min=0) for decay in decays], dim=1)
    return weights * (age >= 0).unsqueeze(1)
