"""Student kind ``gru``: recurrent layers that read a history item by item."""

from typing import Literal

from torch import Tensor, nn

from distill.models.dropout import Dropout
from distill.models.item_table import ItemTable, is_item, right_aligned
from distill.models.students._base import Student
from distilrec.config import StudentConfig
from distilrec.config.section import Positive


class GruStudentConfig(StudentConfig):
    """A student that reads the items of a history in their order, through gated recurrent layers."""

    kind: Literal["gru"] = "gru"
    hidden_size: Positive = 128
    """Width of the layers' states."""
    depth: Positive = 1
    """Recurrent layers."""

    def build(self, items: ItemTable, history_length: int) -> "GruStudent":  # noqa: ARG002 - reads histories of any length
        """See ``StudentConfig``."""
        return GruStudent(items, hidden_size=self.hidden_size, depth=self.depth, dropout=self.dropout)


class GruStudent(Student):
    """Gated recurrent layers over the history's item vectors, added to the last item's (as GRU4Rec, Hidasi 2016, arXiv:1511.06939).

    The layers have no biases, so that padding in front, read as zeros, leaves their states at zero.

    Args:
        items: the item table, size d.
        hidden_size: of the layers' states.
        depth: layers.
        dropout: on each layer's inputs and on user vectors.
    """

    def __init__(self, items: ItemTable, hidden_size: int, depth: int, dropout: float) -> None:
        super().__init__(items)
        size = items.embedding_size
        sizes = [size, *[hidden_size] * depth]
        # One nn.GRU for each layer: quantisation-aware training turns off dropout modules, and nn.GRU has none for its own dropout.
        self.layers = nn.ModuleList(nn.GRU(width, hidden_size, bias=False, batch_first=True) for width in sizes[:-1])
        self.write = nn.Linear(hidden_size, size)
        self.norm = nn.LayerNorm(size)
        self.dropout = Dropout(dropout)

    def encode_all(self, history: Tensor) -> Tensor:
        """int64 [B, T], right-padded -> float32 [B, T, d]."""
        return self._user_vectors(*self._states(history, is_item(history, self.items.item_count)))

    def _encode_last(self, history: Tensor, mask: Tensor) -> Tensor:
        history = right_aligned(history, mask)
        vectors, states = self._states(history, is_item(history, self.items.item_count))
        return self._user_vectors(vectors[:, -1], states[:, -1])

    def _states(self, history: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Item vectors float32 [B, T, d] and states [B, T, hidden_size]."""
        vectors = states = self.items.embed(history) * mask.unsqueeze(2)
        for layer in self.layers:
            states, _ = layer(self.dropout(states))
        return vectors, states

    def _user_vectors(self, vectors: Tensor, states: Tensor) -> Tensor:
        user_vectors: Tensor = self.dropout(self.norm(vectors + self.write(states)))
        return user_vectors
