"""Teachers: large encoders whose opinion the student learns."""

from torch import Tensor, nn

from distill.models.averages import decay_weights, decayed_averages
from distill.models.encoders import Encoder, starting_at_zero
from distill.models.item_table import ItemTable, is_item
from distill.models.teachers.item_bert import item_bert

_DECAYS = (1.0, 0.9, 0.6, 0.0)


class SequenceTeacher(Encoder):
    """BERT body over item vectors, reading causally (as SASRec, Kang and McAuley 2018), so that every position predicts.

    Args:
        items: the item table, size d.
        history_length: L, longest sequence.
        layers, heads, dropout: of the transformer.
    """

    weights: Tensor

    def __init__(self, items: ItemTable, history_length: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__(items)
        size = items.embedding_size
        self.body = item_bert(size, history_length, layers=layers, heads=heads, dropout=dropout, causal=True)
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(len(_DECAYS) * size, 4 * size),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * size, size),
        )
        self.correction = starting_at_zero(nn.Linear(size, size))
        self.norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("weights", decay_weights(history_length, _DECAYS), persistent=False)

    def encode_all(self, history: Tensor) -> Tensor:
        """int64 [B, T], right-padded -> float32 [B, T, d]."""
        return self._encode(history, is_item(history, self.items.item_count))

    def encode_last(self, history: Tensor) -> Tensor:
        """int64 [B, L], left-padded -> float32 [B, d]; popularity for an empty history."""
        mask = is_item(history, self.items.item_count)
        # Attention to nothing is zero in PyTorch and the mean of all positions in its ONNX export. Only an empty history would
        # tell: no item attends to the padding before it.
        return self.popular_if_empty(self._encode(history, mask)[:, -1], mask)

    def _encode(self, history: Tensor, mask: Tensor) -> Tensor:
        # Positions count from the oldest item, wherever the padding stands.
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        vectors = self.items.embed(history)
        states = self.body(inputs_embeds=vectors, attention_mask=mask.long(), position_ids=positions).last_hidden_state
        length = history.shape[1]
        averages = decayed_averages(vectors, mask, self.weights[-length:, :, -length:])  # (B, T, A, d)
        base = averages[:, :, -2] + self.head(averages.flatten(2))
        user_vectors: Tensor = self.dropout(self.norm(base + self.correction(self.dropout(states))))
        return user_vectors
