"""Students: small encoders that answer in milliseconds. What they share, and those that read averages of a history."""

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from distill.models.averages import decay_weights, decayed_averages
from distill.models.encoders import Encoder, starting_at_zero
from distill.models.item_table import ItemTable, is_item


class Student(Encoder):
    """An encoder that answers an empty history with the most popular items."""

    def encode_last(self, history: Tensor) -> Tensor:
        """int64 [B, L], left-padded -> float32 [B, d]; popularity for an empty history."""
        mask = is_item(history, self.items.item_count)
        return self.popular_if_empty(self._encode_last(history, mask), mask)

    @abstractmethod
    def _encode_last(self, history: Tensor, mask: Tensor) -> Tensor:
        """User vectors after the whole history; of no meaning for an empty one. int64 and bool [B, L] -> float32 [B, d]."""


class AverageStudent(Student):
    """Decayed averages of the history's item vectors, the most recent one corrected by what it makes of all and the last item.

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
        self.dropout = nn.Dropout(dropout)
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
        """What to add to the base. float32 [B, T, A * d] -> [B, T, d]."""


class MlpStudent(AverageStudent):
    """An MLP over decayed averages of the history's item vectors and the last item, added to the most recent average.

    Args:
        items: the item table, size d.
        history_length: L, longest history.
        hidden_size: of the MLP's hidden layer.
        decays: one average for each; the last is the base.
        dropout: on inputs, hidden layer and user vectors.
    """

    def __init__(self, items: ItemTable, history_length: int, hidden_size: int, decays: Sequence[float], dropout: float) -> None:
        super().__init__(items, history_length, decays, dropout)
        size = items.embedding_size
        self.mlp = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear((len(decays) + 1) * size, hidden_size),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, size),
        )

    def _correction(self, averages: Tensor) -> Tensor:
        correction: Tensor = self.mlp(averages)
        return correction


class ResidualStudent(AverageStudent):
    """As ``MlpStudent``, with residual blocks between its two layers (ResNet of Gorishniy et al. 2021, arXiv:2106.11959).

    Args:
        items: the item table, size d.
        history_length: L, longest history.
        hidden_size: of all hidden layers.
        depth: residual blocks.
        decays: one average for each; the last is the base.
        dropout: on inputs, in the blocks and on user vectors.
    """

    def __init__(
        self, items: ItemTable, history_length: int, *, hidden_size: int, depth: int, decays: Sequence[float], dropout: float
    ) -> None:
        super().__init__(items, history_length, decays, dropout)
        size = items.embedding_size
        self.read = nn.Sequential(nn.Dropout(dropout), nn.Linear((len(decays) + 1) * size, hidden_size))
        self.blocks = nn.ModuleList(_block(hidden_size, dropout) for _ in range(depth))
        self.write = nn.Sequential(nn.LayerNorm(hidden_size), nn.GELU(), starting_at_zero(nn.Linear(hidden_size, size)))

    def _correction(self, averages: Tensor) -> Tensor:
        states = self.read(averages)
        for block in self.blocks:
            states = states + block(states)
        correction: Tensor = self.write(states)
        return correction


def _block(size: int, dropout: float) -> nn.Sequential:
    """Normalised before, so that the way around it stays free (pre-norm)."""
    return nn.Sequential(
        nn.LayerNorm(size), nn.Linear(size, size), nn.GELU(), nn.Dropout(dropout), nn.Linear(size, size), nn.Dropout(dropout)
    )
