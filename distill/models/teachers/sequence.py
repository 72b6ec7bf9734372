"""Teacher kind ``sequence``: a BERT body that reads item sequences, causally here, masked in ``masked``."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from distill.models.averages import decay_weights, decayed_averages
from distill.models.catalogue import Catalogue
from distill.models.dropout import Dropout
from distill.models.encoders import Encoder, starting_at_zero
from distill.models.item_table import ItemTable, is_item
from distill.models.teachers._base import NeuralTeacherConfig
from distill.models.teachers.item_bert import item_bert
from distill.models.teachers.masked import MaskedTeacher
from distilrec.config.section import Fraction, Positive

_DECAYS = (1.0, 0.9, 0.6, 0.0)


class SequenceTeacherConfig(NeuralTeacherConfig):
    """A BERT body that reads item sequences."""

    kind: Literal["sequence"] = "sequence"
    summary = "A BERT body that reads item histories and recommends the next item. The student learns from it; it is not served."
    objective: Literal["causal", "masked"] = "causal"
    """``causal``: each position predicts the next item (SASRec). ``masked``: hidden items are guessed from both sides."""
    mask_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """``masked``: share of the items of a window that are hidden."""
    embedding_size: Positive = 128
    """Size of item vectors and of the transformer's hidden state."""
    layers: Positive = 2
    heads: Positive = 4
    dropout: Fraction = 0.4
    epochs: Positive = 40
    patience: Positive = 3

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.embedding_size % self.heads:
            raise ValueError(f"embedding_size ({self.embedding_size}) must be a multiple of heads ({self.heads})")
        return self

    def build(self, catalogue: Catalogue, history_length: int) -> "SequenceTeacher | MaskedTeacher":
        """See ``FittedTeacherConfig``."""
        items = catalogue.item_table(self.embedding_size)
        sizes = {"layers": self.layers, "heads": self.heads}
        if self.objective == "masked":
            return MaskedTeacher(items, history_length, **sizes, dropout=self.dropout, mask_fraction=self.mask_fraction)
        return SequenceTeacher(items, history_length, **sizes, dropout=self.dropout)


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
            Dropout(dropout),
            nn.Linear(len(_DECAYS) * size, 4 * size),
            nn.GELU(),
            Dropout(dropout),
            nn.Linear(4 * size, size),
        )
        self.correction = starting_at_zero(nn.Linear(size, size))
        self.norm = nn.LayerNorm(size)
        self.dropout = Dropout(dropout)
        self.register_buffer("weights", decay_weights(history_length, _DECAYS), persistent=False)

    def encode_all(self, history: Tensor) -> Tensor:
        """int64 [B, T], right-padded -> float32 [B, T, d]."""
        return self._encode(history, is_item(history, self.items.item_count))

    def encode_last(self, history: Tensor) -> Tensor:
        """int64 [B, L], left-padded -> float32 [B, d]; popularity for an empty history."""
        mask = is_item(history, self.items.item_count)
        # With all positions masked, attention is zero in PyTorch and the mean of all positions in the ONNX export. That happens
        # only for an empty history, which is replaced here: no item attends to the padding before it.
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
