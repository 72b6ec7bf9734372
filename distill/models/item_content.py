"""What is known of items as tensors, and its projection into item vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from distilrec.data.bags import Bags

CONTENT_WEIGHTS = "content.safetensors"
"""The projection of a trained model, next to its folded weights."""

_START = 0.02
"""Standard deviation of new weights: item vectors start small."""


@dataclass(frozen=True)
class KnownOfItems:
    """What is known of items 1..N besides their interactions."""

    dense: Tensor | None = None
    """float32 [N, c]: title embeddings first, then other blocks side by side."""
    title_size: int = 0
    """Columns of the title embeddings."""
    bags: Bags | None = None
    """Values of categories."""

    @staticmethod
    def of(titles: Tensor | None, blocks: Sequence[Tensor] = (), bags: Bags | None = None) -> "KnownOfItems | None":
        """Join title embeddings and further blocks, float32 [N, size] each; None where nothing is known."""
        parts = [*([] if titles is None else [titles]), *blocks]
        if not parts and bags is None:
            return None
        return KnownOfItems(torch.cat(parts, dim=1) if parts else None, 0 if titles is None else titles.shape[1], bags)


class ContentProjection(nn.Module):
    """Sum of a linear projection of the dense content and of a vector for each value of a category.

    Args:
        known: Content of items 1..N.
        rows: Rows of the item table; rows without an item get the bias alone.
        size: Length of the projected vectors.
    """

    dense: Tensor | None

    def __init__(self, known: KnownOfItems, rows: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.linear = None if known.dense is None else nn.Linear(known.dense.shape[1], size)
        self.register_buffer("dense", None if known.dense is None else in_table(known.dense, rows), persistent=False)
        if self.linear is not None and known.title_size < self.linear.in_features:
            nn.init.normal_(self.linear.weight[:, known.title_size :], std=_START)
        self.categories = None if known.bags is None else CategoryVectors(known.bags, rows, size)

    def forward(self) -> Tensor:
        """float32 [rows, size]."""
        parts: list[Tensor] = []
        if self.linear is not None:
            parts.append(self.linear(self.dense))
        if self.categories is not None:
            parts.append(self.categories())
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


class CategoryVectors(nn.Module):
    """For each item the sum over categories of the mean vector of its values.

    Args:
        bags: Values of items 1..N.
        rows: Rows of the item table.
        size: Length of the vectors.
    """

    values: Tensor
    offsets: Tensor
    weights: Tensor

    def __init__(self, bags: Bags, rows: int, size: int) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(max(bags.count, 1), size, mode="sum", include_last_offset=True)
        nn.init.normal_(self.embedding.weight, std=_START)
        # The row of padding, and those after the items, have no values.
        ends = torch.full((rows - len(bags.offsets),), int(bags.offsets[-1]))
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.from_numpy(bags.offsets), ends])
        self.register_buffer("values", torch.from_numpy(bags.values), persistent=False)
        self.register_buffer("offsets", offsets, persistent=False)
        self.register_buffer("weights", torch.from_numpy(bags.weights), persistent=False)

    def forward(self) -> Tensor:
        """float32 [rows, size]."""
        vectors: Tensor = self.embedding(self.values, self.offsets, self.weights)
        return vectors


class SavedProjection:
    """The projection of a trained model, read back to give vectors to new items and to items whose content has changed."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.weight, self.bias = tensors.get("linear.weight"), tensors.get("linear.bias")
        self.values = tensors.get("categories.embedding.weight")
        self.unknown = tensors["unknown"]
        """float32 [size]: learned part of an item that nobody has touched."""

    def __call__(self, known: KnownOfItems | None) -> Tensor:
        """Projected content of n items, float32 [n, size]."""
        assert known is not None
        projected: list[Tensor] = []
        if self.weight is not None and known.dense is not None:
            projected.append(nn.functional.linear(known.dense, self.weight, self.bias))
        if self.values is not None and known.bags is not None:
            values, offsets, weights = (torch.from_numpy(getattr(known.bags, name)) for name in ("values", "offsets", "weights"))
            bag = nn.functional.embedding_bag(
                values, self.values, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
            )
            projected.append(bag)
        return projected[0] if len(projected) == 1 else projected[0] + projected[1]


def save_projection(projection: ContentProjection, unknown: Tensor | None, folder: Path) -> None:
    """Write what ``load_projection`` reads."""
    tensors = {name: value.contiguous() for name, value in projection.state_dict().items()}
    tensors["unknown"] = torch.zeros(projection.size) if unknown is None else unknown.detach().clone()
    save_file(tensors, folder / CONTENT_WEIGHTS)


def load_projection(folder: Path) -> SavedProjection | None:
    """The projection of a trained model; None where its item vectors have no content."""
    path = folder / CONTENT_WEIGHTS
    return SavedProjection(load_file(path)) if path.exists() else None


def in_table(values: Tensor, rows: int) -> Tensor:
    """Values of items 1..N as rows 1..N of a table, zeros elsewhere."""
    table = torch.zeros(rows, values.shape[1])
    table[1 : len(values) + 1] = values
    return table
