"""The encoder as a graph of its own: looked-up item vectors -> user vector, whatever the number of items."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from distill.models.encoders import Encoder
from distill.models.item_table import ItemTable
from distilrec.core.specs import PADDING
from export.graph.onnx import EXAMPLE_BATCH, export_module


class _LookedUpItems(nn.Module):
    """In place of the item table: "items" are the positions of a history, from 1 on, and their rows are given with each request.

    An encoder may put the items of a history into another order before it embeds them, so rows are looked up by position.
    """

    def __init__(self, table: ItemTable, history_length: int) -> None:
        super().__init__()
        self.table = [table]  # not a submodule: its rows must not become a part of the graph
        self.item_count = history_length
        self.embedding_size = table.embedding_size
        self.basis = table.basis
        self.rows: Tensor | None = None

    def embed(self, history: Tensor) -> Tensor:
        """int64 [B, T] of positions, 0 for padding -> float32 [B, T, d]."""
        assert self.rows is not None
        places = (history - 1).clamp(min=0)[:, :, None].expand(-1, -1, self.rows.shape[2])
        rows = self.rows.gather(1, places)
        return rows if self.basis is None else rows @ self.basis


class EncoderGraph(nn.Module):
    """int32 [B, L] and float32 [B, L, r] -> float32 [B, r]: a history, the rows of its items, and the user vector.

    Args:
        encoder: An encoder whose ``items`` are ``_LookedUpItems``.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, history: Tensor, vectors: Tensor) -> Tensor:
        """``history`` holds item indices, left-padded with 0; ``vectors`` the rows of the table at these indices."""
        items = self.encoder.items
        items.rows = vectors
        places = torch.arange(1, history.shape[1] + 1)
        user_vectors = self.encoder.encode_last(torch.where(history == PADDING, PADDING, places))
        basis = items.basis
        return user_vectors if basis is None else nn.functional.linear(user_vectors, basis)


@contextmanager
def encoder_graph(student: Encoder, history_length: int) -> Iterator[EncoderGraph]:
    """The graph of a student, whose item table is put aside meanwhile.

    Args:
        student: Student with a folded table, in evaluation mode.
        history_length: L.
    """
    table = student.items
    try:
        student.items = _LookedUpItems(table, history_length)  # type: ignore[assignment]
        yield EncoderGraph(student)
    finally:
        student.items = table


def export_encoder(student: Encoder, history_length: int, path: Path, metadata: dict[str, str]) -> None:
    """Write the encoder's graph, with the inputs ``history`` and ``vectors`` and the output ``user_vectors``."""
    width = student.items.learned.shape[1]
    example = (torch.zeros(EXAMPLE_BATCH, history_length, dtype=torch.int32), torch.zeros(EXAMPLE_BATCH, history_length, width))
    with encoder_graph(student, history_length) as graph:
        export_module(graph, example, path, metadata, inputs=["history", "vectors"], outputs=["user_vectors"])
