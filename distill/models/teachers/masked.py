"""The masked sequence teacher: BERT4Rec (Sun et al. 2019, arXiv:1904.06690)."""

import torch
from torch import Tensor, nn

from distill.data.sequences import Batch
from distill.models.averages import decayed_averages
from distill.models.dropout import Dropout
from distill.models.encoders import starting_at_zero
from distill.models.item_table import ItemTable, is_item
from distill.models.teachers.item_bert import item_bert
from distill.models.teachers.prefix_encoder import PrefixEncoder

_PREFIXES_AT_ONCE = 512
_LAST_ONLY = 0.1
"""Share of windows in which only the last item is hidden, as in inference."""


class MaskedTeacher(PrefixEncoder):
    """BERT body over item vectors that reads in both directions and predicts masked items; a mask after the history recommends.

    The prediction is added to the mean of the visible items. That is not in the paper; without it, training takes many times as
    long.

    Args:
        items: the item table, size d.
        history_length: L, longest sequence, the hidden item included: of a full history the L - 1 newest items are read.
        layers, heads, dropout: of the transformer.
        mask_fraction: share of the items of a window that are hidden in training.
    """

    def __init__(
        self, items: ItemTable, history_length: int, layers: int, heads: int, dropout: float, *, mask_fraction: float
    ) -> None:
        super().__init__(items, _PREFIXES_AT_ONCE)
        size = items.embedding_size
        self.body = item_bert(size, history_length, layers=layers, heads=heads, dropout=dropout, causal=False)
        self.mask = nn.Parameter(torch.randn(size) * 0.02)
        # Begins with the mean, whose vectors are small.
        correction = starting_at_zero(nn.Linear(size, size))
        self.head = nn.Sequential(nn.Linear(size, size), nn.GELU(), Dropout(dropout), correction)
        self.norm = nn.LayerNorm(size)
        self.dropout = Dropout(dropout)
        self.history_length = history_length
        self.mask_fraction = mask_fraction

    def encode_last(self, history: Tensor) -> Tensor:
        """int64 [B, L], left-padded -> float32 [B, d]; popularity for an empty history."""
        history = history[:, max(0, history.shape[1] - self.history_length + 1) :]
        present = is_item(history, self.item_count)
        read = nn.functional.pad(history, (0, 1))
        hidden = torch.arange(read.shape[1], device=read.device).expand_as(read) == history.shape[1]
        states, seen = self._read(read, is_item(read, self.item_count) | hidden, hidden)
        return self.popular_if_empty(self._predict(states[:, -1], seen), present)

    def encode_some(self, history: Tensor) -> Tensor:
        """See ``PrefixEncoder``."""
        return self.encode_last(history)

    def training_examples(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """User vectors at hidden items, and these items. Prefixes are -1: this teacher does not learn from soft targets."""
        present = is_item(batch.history, self.item_count)
        hidden = hide(present, self.mask_fraction, _LAST_ONLY)
        states, seen = self._read(batch.history, present, hidden)
        vectors = self._predict(states[hidden], seen[hidden.nonzero()[:, 0]])
        targets = batch.history[hidden]
        return vectors, targets, torch.full_like(targets, -1)

    def _predict(self, states: Tensor, seen: Tensor) -> Tensor:
        """float32 [M, d], twice -> user vectors float32 [M, d]."""
        vectors: Tensor = self.dropout(self.norm(seen + self.head(states)))
        return vectors

    def _read(self, history: Tensor, present: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """int64 and twice bool [B, T] -> states float32 [B, T, d], mean of the items that are not hidden float32 [B, d]."""
        # Positions count from the newest, so that what follows the history stands at 0, however long that is.
        positions = (present.long().sum(dim=1, keepdim=True) - present.cumsum(dim=1)).clamp(max=self.history_length - 1)
        vectors = nn.functional.embedding(history, self.items())
        seen = decayed_averages(vectors, present & ~hidden, vectors.new_ones(1, 1, history.shape[1]))[:, 0, 0]
        vectors = torch.where(hidden[:, :, None], self.mask, vectors)
        states = self.body(inputs_embeds=vectors, attention_mask=present.long(), position_ids=positions).last_hidden_state
        return states, seen


def hide(present: Tensor, fraction: float, last_only: float) -> Tensor:
    """Which items to hide, at least one a row, drawn with PyTorch's global generator.

    Args:
        present: bool [B, T], right-padded, no row empty.
        fraction: probability of an item.
        last_only: probability of a row that its last item alone is hidden.

    Returns:
        bool [B, T].
    """
    device = present.device
    last = present & (present.cumsum(dim=1) == present.sum(dim=1, keepdim=True))
    hidden = present & (torch.rand(present.shape).to(device) < fraction)  # drawn on the CPU: the same on all devices
    alone = torch.rand(present.shape[0], 1).to(device) < last_only
    return torch.where(alone | ~hidden.any(dim=1, keepdim=True), last, hidden)
