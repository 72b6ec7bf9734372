"""The item table: one matrix that embeds histories and scores candidates."""

import torch
from torch import Tensor, nn

from distilrec.data.dataset import Dataset
from distilrec.specs import PADDING, table_rows


class ItemTable(nn.Module):
    """Item vectors = learned vectors [+ projected frozen text embeddings] [with a fixed popularity coordinate].

    Args:
        item_count: N.
        embedding_size: d, length of an item vector.
        text: float32 [N, d_text], frozen text embeddings.
        popularity: float32 [N], fixed first coordinate of the item vectors; the learned part has d - 1 columns then. It
            gives an encoder a popularity ranking for nothing: the user vector (1, 0, ..., 0).
    """

    popularity: Tensor | None
    text: Tensor | None

    def __init__(self, item_count: int, embedding_size: int, text: Tensor | None = None, popularity: Tensor | None = None) -> None:
        super().__init__()
        self.item_count = item_count
        self.embedding_size = embedding_size
        rows = table_rows(item_count)
        learned_size = embedding_size - (popularity is not None)
        self.learned = nn.Parameter(torch.randn(rows, learned_size) * 0.02)
        self.register_buffer("text", None if text is None else _in_table(text, rows), persistent=False)
        self.projection = None if text is None else nn.Linear(text.shape[1], learned_size)
        self.register_buffer("popularity", None if popularity is None else _in_table(popularity[:, None], rows))

    def forward(self) -> Tensor:
        """All item vectors, float32 [rows, d]; row 0 (padding) and filler rows hold values without meaning."""
        vectors: Tensor = self.learned
        if self.projection is not None:
            vectors = vectors + self.projection(self.text)
        if self.popularity is not None:
            vectors = torch.cat([self.popularity, vectors], dim=1)
        return vectors

    @torch.no_grad()
    def fold(self) -> None:
        """Become one plain matrix with the same item vectors, which is all that inference needs."""
        self.learned = nn.Parameter(self().clone())
        self.projection = self.popularity = None
        self.text = None


def is_item(history: Tensor, item_count: int) -> Tensor:
    """Which entries are items; everything outside 1..N counts as padding. bool, same shape."""
    return (history > PADDING) & (history <= item_count)


def popularity_prior(dataset: Dataset) -> Tensor:
    """Standardised log(1 + training count) of items 1..N, scaled to the size of learned coordinates. float32 [N]."""
    logs = torch.from_numpy(dataset.training_counts()[1:]).float().log1p()
    return 0.1 * (logs - logs.mean()) / logs.std().clamp(min=1e-6)


def _in_table(values: Tensor, rows: int) -> Tensor:
    """Values of items 1..N as rows 1..N of a table, zeros elsewhere."""
    table = torch.zeros(rows, values.shape[1])
    table[1 : len(values) + 1] = values
    return table
