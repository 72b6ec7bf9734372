"""Student kind ``transformer``: self-attention over a history."""

from typing import Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from distill.models.dropout import Dropout
from distill.models.encoders import starting_at_zero
from distill.models.item_table import ItemTable, is_item, right_aligned
from distill.models.students._base import Student
from distilrec.config import StudentConfig
from distilrec.config.section import Positive

_MASKED = -1e4
"""Added to attention scores of masked positions; finite in FP16, too."""


class TransformerStudentConfig(StudentConfig):
    """A student that attends to the items of a history in their order."""

    kind: Literal["transformer"] = "transformer"
    hidden_size: Positive = 128
    """Width of the feed-forward layers."""
    depth: Positive = 1
    """Transformer layers."""
    heads: Positive = 2
    """Attention heads of each layer."""

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.embedding_size % self.heads:
            raise ValueError(f"embedding_size ({self.embedding_size}) must be a multiple of heads ({self.heads})")
        return self

    def build(self, items: ItemTable, history_length: int) -> "TransformerStudent":
        """See ``StudentConfig``."""
        sizes = {"hidden_size": self.hidden_size, "depth": self.depth, "heads": self.heads}
        return TransformerStudent(items, history_length, **sizes, dropout=self.dropout)


class TransformerStudent(Student):
    """Causal self-attention over the history's item vectors (as SASRec, Kang and McAuley 2018, arXiv:1808.09781).

    Positions enter as ages: each head learns a bias for each distance between two items (Raffel et al. 2020, arXiv:1910.10683).
    Therefore the result does not depend on the place of the padding.

    Args:
        items: the item table, size d.
        history_length: L, longest history.
        hidden_size: of the feed-forward layers.
        depth: layers.
        heads: of attention, in each layer; d is a multiple.
        dropout: on inputs, attention, each layer's outputs and user vectors.
    """

    def __init__(self, items: ItemTable, history_length: int, *, hidden_size: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__(items)
        size = items.embedding_size
        self.layers = nn.ModuleList(_Layer(size, history_length, hidden_size, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(size)
        self.dropout = Dropout(dropout)

    def encode_all(self, history: Tensor) -> Tensor:
        """int64 [B, T], right-padded -> float32 [B, T, d]."""
        return self._encode(history, is_item(history, self.items.item_count), newest_only=False)

    def _encode_last(self, history: Tensor, mask: Tensor) -> Tensor:
        history = right_aligned(history, mask)
        return self._encode(history, is_item(history, self.items.item_count), newest_only=True)[:, 0]

    def _encode(self, history: Tensor, mask: Tensor, *, newest_only: bool) -> Tensor:
        """User vectors at every position, or at the last one alone, float32 [B, T or 1, d]."""
        states = self.dropout(self.items.embed(history))
        padding = (~mask).to(states.dtype)[:, None, None, :] * _MASKED  # (B, 1, 1, T)
        for place, layer in enumerate(self.layers):
            # Only the last position of the last layer is read.
            queries = 1 if newest_only and place == len(self.layers) - 1 else history.shape[1]
            states = layer(states, padding, queries)
        user_vectors: Tensor = self.dropout(self.norm(states))
        return user_vectors


class _Layer(nn.Module):
    """Attention and feed-forward, each normalised at its input (pre-norm; Xiong et al. 2020, arXiv:2002.04745)."""

    ages: Tensor
    causal: Tensor

    def __init__(self, size: int, history_length: int, hidden_size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(size)
        self.query = nn.Linear(size, size)
        self.key_value = nn.Linear(size, 2 * size)
        self.attended = starting_at_zero(nn.Linear(size, size))
        self.recency = nn.Parameter(torch.zeros(heads, history_length))
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(size),
            nn.Linear(size, hidden_size),
            nn.GELU(),
            Dropout(dropout),
            starting_at_zero(nn.Linear(hidden_size, size)),
        )
        self.dropout = Dropout(dropout)
        age = torch.arange(history_length)[:, None] - torch.arange(history_length)[None, :]  # (query, key)
        self.register_buffer("ages", age.clamp(min=0), persistent=False)
        self.register_buffer("causal", (age < 0) * _MASKED, persistent=False)

    def forward(self, states: Tensor, padding: Tensor, queries: int) -> Tensor:
        """States of the last ``queries`` positions, float32 [B, queries, d], from those of all, [B, T, d].

        ``padding`` is float32 [B, 1, 1, T], to be added to attention scores.
        """
        length = states.shape[1]
        normed = self.attention_norm(states)
        query = self._split(self.query(normed[:, length - queries :]))
        key, value = (self._split(part) for part in self.key_value(normed).chunk(2, dim=-1))
        ages, causal = (table[length - queries : length, :length] for table in (self.ages, self.causal))
        scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5 + (self.recency[:, ages] + causal) + padding
        mixed = self.dropout(scores.softmax(dim=-1)) @ value  # (B, heads, queries, d / heads)
        states = states[:, length - queries :] + self.dropout(self.attended(mixed.transpose(1, 2).flatten(2)))
        updated: Tensor = states + self.dropout(self.feed_forward(states))
        return updated

    def _split(self, vectors: Tensor) -> Tensor:
        """float32 [B, T, d] -> [B, heads, T, d / heads]."""
        return vectors.view(*vectors.shape[:2], self.heads, -1).transpose(1, 2)
