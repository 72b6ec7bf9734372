"""The item table: one matrix that embeds histories and scores candidates."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from distill.models.item_content import ContentProjection, KnownOfItems, in_table
from distilrec.core.specs import PADDING, table_rows
from distilrec.data.dataset import Dataset


class ItemTable(nn.Module):
    """Item vectors = learned vectors [+ projected content] [with a fixed popularity coordinate].

    With ``id_dropout``, items without training interactions have one vector that they share in place of a learned one, and no
    popularity yet (0, the mean). So has a part of the others in each training step (DropoutNet, Volkovs et al. 2017), so that
    content alone is a usable vector, and the shared vector says how much an unknown item is worth.

    With a rank, these are the rows of a narrower factor, and an item vector is such a row times one basis that all items share
    (Lan et al. 2019, arXiv:1909.11942): rank * (rows + d) numbers instead of rows * d. Factor and basis stay
    two matrices at inference, because their product has the size of a full table.

    Args:
        item_count: N.
        embedding_size: d, length of an item vector.
        content: What is known of the items: frozen title embeddings and more.
        popularity: float32 [N], fixed first coordinate of the item vectors; the learned part has one column less then. It
            gives an encoder a popularity ranking without training: the user vector (1, 0, ..., 0).
        rank: r, columns of the factor, that of popularity among them; None for a full table.
        id_dropout: Probability of an item to be known by its content alone in a training step.
        touched: bool [N], which items have training interactions; None for all. Not read without ``id_dropout``.
    """

    popularity: Tensor | None
    touched: Tensor | None

    def __init__(
        self,
        item_count: int,
        embedding_size: int,
        content: KnownOfItems | None = None,
        popularity: Tensor | None = None,
        rank: int | None = None,
        *,
        id_dropout: float = 0.0,
        touched: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.item_count = item_count
        self.embedding_size = embedding_size
        rows = table_rows(item_count)
        fixed = popularity is not None
        learned_size = (rank or embedding_size) - fixed
        self.learned = nn.Parameter(torch.randn(rows, learned_size) * 0.02)
        self.content = None if content is None else ContentProjection(content, rows, learned_size)
        self.register_buffer("popularity", None if popularity is None else in_table(popularity[:, None], rows))
        # Item vectors start as large as those of a full table.
        basis = None if rank is None else torch.randn(learned_size, embedding_size - fixed) * learned_size**-0.5
        self.basis = None if basis is None else nn.Parameter(basis)
        self.id_dropout = id_dropout
        self.unknown = nn.Parameter(torch.zeros(learned_size)) if id_dropout else None
        known = torch.ones(item_count) if touched is None else touched.float()
        self.register_buffer("touched", in_table(known[:, None], rows).bool() if id_dropout else None, persistent=False)
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
        return nn.functional.linear(self.in_factor_space(user_vectors), self._factor())

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Context in which the sum of learned vectors, content and popularity is computed once, for a training step."""
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
        self.content = self.popularity = self.unknown = self.touched = None

    def untouched_rows(self) -> Tensor | None:
        """Mask of the items without training interactions, bool [N]; None where there is none, or the table does not care."""
        if self.touched is None:
            return None
        untouched = ~self.touched[1 : self.item_count + 1, 0]
        return untouched if bool(untouched.any()) else None

    def in_factor_space(self, user_vectors: Tensor) -> Tensor:
        """User vectors whose products with rows of the factor are scores. float32 [B, d] -> [B, r]."""
        basis = self._basis()
        return user_vectors if basis is None else nn.functional.linear(user_vectors, basis)

    def factor_where(self, known: Tensor) -> Tensor:
        """The factor where only some items are known by more than their content. bool [N] -> float32 [rows, r]."""
        return self._rows(in_table(known[:, None].float(), len(self.learned)).bool())

    def _factor(self) -> Tensor:
        """float32 [rows, r]; [rows, d] for a full table."""
        if self._kept is not None:
            return self._kept
        known = self.touched
        if known is not None and self.training:  # drawn on the CPU, so that all devices draw the same
            known = known & (torch.rand(len(known), 1) >= self.id_dropout).to(known.device)
        return self._rows(known)

    def _rows(self, known: Tensor | None) -> Tensor:
        """The factor; ``known`` is a mask of the rows whose learned part counts, bool [rows, 1], or None for all."""
        rows: Tensor = self.learned
        popularity = self.popularity
        if known is not None and self.unknown is not None:
            rows = torch.where(known, rows, self.unknown)
            popularity = None if popularity is None else popularity * known
        if self.content is not None:
            rows = rows + self.content()
        if popularity is not None:
            rows = torch.cat([popularity, rows], dim=1)
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


def popularity_prior(dataset: Dataset, *, none_yet: bool = False) -> Tensor:
    """Standardised log(1 + training count) of items 1..N, scaled to the size of learned coordinates. float32 [N].

    Args:
        dataset: The data set.
        none_yet: Whether an item without training interactions has the mean of the others, rather than the lowest popularity.
    """
    return popularity_of_counts(torch.from_numpy(dataset.training_counts()), none_yet=none_yet)


def popularity_of_counts(counts: Tensor, *, none_yet: bool = False) -> Tensor:
    """As ``popularity_prior``, of training interactions by item index. int64 [N + 1] -> float32 [N]."""
    logs = counts[1:].float().log1p()
    counted = logs[logs > 0] if none_yet else logs
    prior = 0.1 * (logs - counted.mean()) / counted.std().clamp(min=1e-6)
    return torch.where(logs > 0, prior, 0.0) if none_yet else prior
