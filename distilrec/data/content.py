"""What is known of items besides their titles: categories, numbers, texts and vectors, as files say it and as models read it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from distilrec.config import FeatureConfig
from distilrec.core.errors import DataError
from distilrec.core.files import write_text
from distilrec.data.bags import Bags

SCHEMA_FILE = "content.json"
_FEATURES_FILE = "content.parquet"

_FEWEST_ITEMS = 2
"""Items that a value of a category must have. A value of one item says nothing of others, and would stand for the item's id."""
_LARGEST_SCALED = 5.0
"""Magnitude at which a scaled number is cut off."""


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of a column of numbers."""

    mean: float
    std: float


@dataclass(frozen=True)
class ContentSchema:
    """What models know of the content: it is found once and stays, so that later items are read in the same way."""

    categories: Mapping[str, tuple[str, ...]]
    """Known values of each category."""
    numbers: Mapping[str, Scaling]
    texts: tuple[str, ...]
    vectors: Mapping[str, int]
    """Length of the vectors by name."""
    pictures: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all content."""
        return (*self.categories, *self.numbers, *self.texts, *self.vectors, *self.pictures)

    @property
    def embedded(self) -> tuple[str, ...]:
        """Names of the content that models of other makers embed: texts and pictures."""
        return (*self.texts, *self.pictures)

    def selected(self, names: Sequence[str]) -> "ContentSchema":
        """The part of the schema with these names."""
        return ContentSchema(
            {name: values for name, values in self.categories.items() if name in names},
            {name: scaling for name, scaling in self.numbers.items() if name in names},
            tuple(name for name in self.texts if name in names),
            {name: size for name, size in self.vectors.items() if name in names},
            tuple(name for name in self.pictures if name in names),
        )

    def save(self, folder: Path) -> None:
        """Write as JSON into a data folder."""
        content = {
            "categories": {name: list(values) for name, values in self.categories.items()},
            "numbers": {name: [scaling.mean, scaling.std] for name, scaling in self.numbers.items()},
            "texts": list(self.texts),
            "vectors": dict(self.vectors),
            "pictures": list(self.pictures),
        }
        write_text(folder / SCHEMA_FILE, json.dumps(content, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class ItemContent:
    """What the files say of N items."""

    features: pl.DataFrame
    """A row for each item: item_id, categories as lists of text, numbers as float64 or null, texts and paths ("": none)."""
    vectors: Mapping[str, NDArray[np.float32]]
    """float32 [N, size] by name; zeros for items without a vector."""

    def save(self, folder: Path) -> None:
        """Write into a data folder."""
        self.features.write_parquet(folder / _FEATURES_FILE)
        for name, vectors in self.vectors.items():
            np.save(_vector_path(folder, name), vectors)

    def rows(self, indices: NDArray[np.int64]) -> "ItemContent":
        """The content of some items, int64 [n] from 0."""
        return ItemContent(self.features[indices], {name: vectors[indices] for name, vectors in self.vectors.items()})


def find_schema(content: ItemContent, features: FeatureConfig) -> ContentSchema:
    """The schema that items of a training have: values of categories that several items have, and scales of numbers."""
    categories = {}
    for name in features.categories:
        counts = content.features[name].explode().drop_nulls().value_counts()
        categories[name] = tuple(counts.filter(pl.col("count") >= _FEWEST_ITEMS)[name].sort())
    numbers = {}
    for name in features.numbers:
        present = content.features[name].drop_nulls().to_numpy()
        numbers[name] = Scaling(float(present.mean()), float(present.std()) or 1.0) if len(present) else Scaling(0.0, 1.0)
    sizes = {name: vectors.shape[1] for name, vectors in content.vectors.items()}
    return ContentSchema(categories, numbers, features.texts, sizes, features.pictures)


def load_content(folder: Path) -> tuple[ContentSchema, ItemContent] | None:
    """Read what was saved into a data folder; None where nothing is known of items besides their titles.

    Raises:
        DataError: The files cannot be read.
    """
    if not (folder / SCHEMA_FILE).exists():
        return None
    try:
        schema = _schema(json.loads((folder / SCHEMA_FILE).read_text("utf-8")))
        features = pl.read_parquet(folder / _FEATURES_FILE, glob=False)
        vectors = {name: np.load(_vector_path(folder, name), allow_pickle=False) for name in schema.vectors}
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{folder}: found no content of items ({error!r}), expected it. Run the stage data again.") from error
    return schema, ItemContent(features, vectors)


def category_bags(schema: ContentSchema, content: ItemContent) -> Bags | None:
    """Values of all categories of the schema, unknown ones left out; None where it has no categories."""
    if not schema.categories:
        return None
    parts, first = [], 0
    for name, known in schema.categories.items():
        codes = pl.DataFrame({name: list(known), "value": np.arange(first, first + len(known))}, schema_overrides={name: pl.String})
        values = content.features.select(pl.int_range(pl.len()).alias("item"), pl.col(name)).explode(name).drop_nulls()
        found = values.unique(["item", name], maintain_order=True).join(codes, on=name, maintain_order="left")
        parts.append(found.select("item", "value", (1.0 / pl.len().over("item")).alias("weight")))
        first += len(known)
    joined = pl.concat(parts).sort("item", maintain_order=True)
    lengths = np.bincount(joined["item"].to_numpy(), minlength=len(content.features))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    weights = joined["weight"].to_numpy().astype(np.float32)
    return Bags(joined["value"].to_numpy().astype(np.int64), offsets, weights, first)


def dense_blocks(schema: ContentSchema, content: ItemContent) -> list[NDArray[np.float32]]:
    """Numbers and vectors of the schema as float32 [N, size] each.

    A number becomes its scaled value (0 where it is missing) and whether it is missing. Vectors get unit length, as title
    embeddings have; an item without one keeps zeros.
    """
    blocks = []
    for name, scaling in schema.numbers.items():
        values = content.features[name].fill_null(np.nan).to_numpy()
        missing = np.isnan(values)
        scaled = np.clip((values - scaling.mean) / scaling.std, -_LARGEST_SCALED, _LARGEST_SCALED)
        blocks.append(np.stack([np.where(missing, 0.0, scaled), missing], axis=1).astype(np.float32))
    for name in schema.vectors:
        vectors = content.vectors[name]
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        blocks.append(np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0))
    return blocks


def _vector_path(folder: Path, name: str) -> Path:
    return folder / f"vectors-{name}.npy"


def _schema(found: Mapping[str, Any]) -> ContentSchema:
    return ContentSchema(
        {name: tuple(values) for name, values in found["categories"].items()},
        {name: Scaling(*scaling) for name, scaling in found["numbers"].items()},
        tuple(found["texts"]),
        dict(found["vectors"]),
        tuple(found["pictures"]),
    )
