"""The item table: one matrix that embeds histories and scores candidates."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from distilrec.core.specs import PADDING, table_rows
from distilrec.data.dataset import Dataset


class ItemTable(nn.Module):
    """Item vectors = learned vectors [+ projected frozen text embeddings] [with a fixed popularity coordinate].

    With a rank, these are the rows of a narrower factor, and an item vector is such a row times one basis that all items share
    (Lan et al. 2019, arXiv:1909.11942): rank * (rows + d) numbers instead of rows * d. Factor and basis stay
    two matrices at inference, because their product has the size of a full table.

    Args:
        item_count: N.
        embedding_size: d, length of an item vector.
        text: float32 [N, d_text], frozen text embeddings.
        popularity: float32 [N], fixed first coordinate of the item vectors; the learned part has one column less then. It
            gives an encoder a popularity ranking without training: the user vector (1, 0, ..., 0).
        rank: r, columns of the factor, that of popularity among them; None for a full table.
    """

    popularity: Tensor | None
    text: Tensor | None

    def __init__(
        self,
        item_count: int,
        embedding_size: int,
        text: Tensor | None = None,
        popularity: Tensor | None = None,
        rank: int | None = None,
    ) -> None:
        super().__init__()
        self.item_count = item_count
        self.embedding_size = embedding_size
        rows = table_rows(item_count)
        fixed = popularity is not None
        learned_size = (rank or embedding_size) - fixed
        self.learned = nn.Parameter(torch.randn(rows, learned_size) * 0.02)
        self.register_buffer("text", None if text is None else _in_table(text, rows), persistent=False)
        self.projection = None if text is None else nn.Linear(text.shape[1], learned_size)
        self.register_buffer("popularity", None if popularity is None else _in_table(popularity[:, None], rows))
        # Item vectors start as large as those of a full table.
        basis = None if rank is None else torch.randn(learned_size, embedding_size - fixed) * learned_size**-0.5
        self.basis = None if basis is None else nn.Parameter(basis)
        self.expand = Product()
        self._kept: Tensor | None = None

    def forward(self) -> Tensor:
        """All item vectors, float32 [rows, d]; row 0 (padding) and filler rows hold values without meaning."""
        basis = self._basis()
        return self._factor() if basis is None else self._factor() @ basis

    def embed(self, history: Tensor) -> Tensor:
        """Vectors of items, int64 [B, T] -> float32 [B, T, d]. It costs as much as ``forward``, unless used within ``kept``."""
        basis = self._basis()
        rows = nn.functional.embedding(history, self._factor())
        return rows if basis is None else self.expand(rows, basis)

    def scores(self, user_vectors: Tensor) -> Tensor:
        """Products with every row of the table, float32 [B, d] -> [B, rows]."""
        basis = self._basis()
        if basis is not None:
            user_vectors = nn.functional.linear(user_vectors, basis)  # (B, r)
        return nn.functional.linear(user_vectors, self._factor())

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Context in which the sum of learned vectors, text and popularity is computed once for all calls, for a training step."""
        self._kept = self._factor()
        try:
            yield
        finally:
            self._kept = None

    @torch.no_grad()
    def fold(self) -> None:
        """Turn into plain matrices with the same item vectors, all that inference needs: the table, or factor and basis."""
        basis = self._basis()
        self.learned = nn.Parameter(self._factor().clone())
        self.basis = None if basis is None else nn.Parameter(basis.clone())
        self.projection = self.popularity = None
        self.text = None

    def _factor(self) -> Tensor:
        """float32 [rows, r]; [rows, d] for a full table."""
        if self._kept is not None:
            return self._kept
        rows: Tensor = self.learned
        if self.projection is not None:
            rows = rows + self.projection(self.text)
        if self.popularity is not None:
            rows = torch.cat([self.popularity, rows], dim=1)
        return rows

    def _basis(self) -> Tensor | None:
        """float32 [r, d]; popularity's row and column are those of the identity, so that it stays the first coordinate."""
        basis: Tensor | None = self.basis
        if basis is None or self.popularity is None:
            return basis
        first = torch.zeros(1, self.embedding_size, device=basis.device)
        first[0, 0] = 1.0
        return torch.cat([first, nn.functional.pad(basis, (1, 0))])


class Product(nn.Module):
    """Matrix product of two inputs, as a module, so that quantisation-aware training can hook both operands."""

    def forward(self, values: Tensor, weights: Tensor) -> Tensor:
        """float32 [..., m] and [m, n] -> [..., n]."""
        return values @ weights


def is_item(history: Tensor, item_count: int) -> Tensor:
    """Mask of the entries that are items; everything outside 1..N counts as padding. bool, same shape."""
    return (history > PADDING) & (history <= item_count)


def right_aligned(history: Tensor, mask: Tensor) -> Tensor:
    """The items marked in ``mask``, in their order, at the end of each row, with padding in front. int64 [B, T] -> [B, T]."""
    length = history.shape[1]
    places = length - mask.sum(dim=1, keepdim=True) + mask.cumsum(dim=1)  # 1..T for items
    # Padding goes to place 0, which is then cut off.
    aligned = history.new_full((history.shape[0], length + 1), PADDING).scatter(1, torch.where(mask, places, 0), history)
    return aligned[:, 1:]


def popularity_prior(dataset: Dataset) -> Tensor:
    """Standardised log(1 + training count) of items 1..N, scaled to the size of learned coordinates. float32 [N]."""
    logs = torch.from_numpy(dataset.training_counts()[1:]).float().log1p()
    return 0.1 * (logs - logs.mean()) / logs.std().clamp(min=1e-6)


def _in_table(values: Tensor, rows: int) -> Tensor:
    """Values of items 1..N as rows 1..N of a table, zeros elsewhere."""
    table = torch.zeros(rows, values.shape[1])
    table[1 : len(values) + 1] = values
    return table
