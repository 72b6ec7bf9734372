"""What an approximate head is made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from distill.models.encoders import Encoder
from distilrec.core.specs import RecommenderSpec
from distilrec.data.item_filters import ItemFilters


@dataclass(frozen=True)
class HeadInput:
    """What a head is built from."""

    student: Encoder
    """Student with a folded table, in evaluation mode."""
    spec: RecommenderSpec
    vocabulary_sha256: str
    filters: ItemFilters | None
    """Attributes of the items; None where requests cannot filter."""
    retired: Sequence[int]
    """Indices of items that are never returned."""
