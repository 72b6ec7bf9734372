"""What is known of the items that a model is built for."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from distill.models.item_content import KnownOfItems
from distill.models.item_table import ItemTable
from distilrec.config import TextConfig


@dataclass(frozen=True)
class Catalogue:
    """Items 1..N. A model that is loaded needs their number alone; the rest is for one that is trained."""

    item_count: int
    """N."""
    titles: Sequence[str] = ()
    """Titles of items 1..N."""
    content: KnownOfItems | None = None
    """What is projected into the item vectors of this model."""
    popularity: Tensor | None = None
    """float32 [N], fixed coordinate of the item table (``popularity_prior``)."""
    text: TextConfig = field(default_factory=TextConfig)
    """The model that embeds titles."""
    id_dropout: float = 0.0
    """Probability of an item to be known by its content alone in a training step."""
    touched: Tensor | None = None
    """bool [N], which items have training interactions; None for all."""

    def item_table(self, embedding_size: int, rank: int | None = None) -> ItemTable:
        """An untrained item table of these items."""
        return ItemTable(
            self.item_count,
            embedding_size,
            self.content,
            self.popularity,
            rank,
            id_dropout=self.id_dropout,
            touched=self.touched,
        )
