"""What is known of the items that a model is built for."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from distill.models.item_table import ItemTable
from distilrec.config import TextConfig


@dataclass(frozen=True)
class Catalogue:
    """Items 1..N. A model that is loaded needs their number alone; the rest is for one that is trained."""

    item_count: int
    """N."""
    titles: Sequence[str] = ()
    """Titles of items 1..N."""
    title_embeddings: Tensor | None = None
    """float32 [N, d_text]."""
    popularity: Tensor | None = None
    """float32 [N], fixed coordinate of the item table (``popularity_prior``)."""
    text: TextConfig = field(default_factory=TextConfig)
    """The model that embeds titles."""

    def item_table(self, embedding_size: int, rank: int | None = None) -> ItemTable:
        """An untrained item table of these items."""
        return ItemTable(self.item_count, embedding_size, self.title_embeddings, self.popularity, rank)
