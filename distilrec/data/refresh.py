"""A catalogue as it is now against one that is known: what is new, what has changed, and what is no longer listed."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from distilrec.config import FeatureConfig, VectorConfig
from distilrec.core.errors import DataError, DataWarning
from distilrec.data.content import ContentSchema, ItemContent, load_content
from distilrec.data.content_files import read_vectors
from distilrec.data.files import shown
from distilrec.data.item_filters import ItemFilters
from distilrec.data.vocabulary import FILE_NAME, Vocabulary, load_vocabulary

_MOST_RETIRED = 0.5
"""Share of the items above which a list that retires them is rather a wrong file."""


@dataclass(frozen=True)
class Catalogue:
    """Items in the order of their indices, and what is known of them."""

    vocabulary: Vocabulary
    schema: ContentSchema | None
    content: ItemContent | None


def load_catalogue(folder: Path) -> Catalogue:
    """The catalogue of a data folder."""
    return Catalogue(load_vocabulary(folder / FILE_NAME), *(load_content(folder) or (None, None)))


@dataclass(frozen=True)
class Listing:
    """All items as they are now."""

    where: str
    """Name of the list in errors."""
    items: pl.DataFrame
    """As ``tables.read_items`` returns them, with the features of the catalogue's schema."""
    vectors: Mapping[str, VectorConfig]
    """Files of vectors. An item that is known and not in its file keeps its vector."""


@dataclass(frozen=True)
class CatalogueChange:
    """What a list of the items as they are now changes."""

    catalogue: Catalogue
    """The catalogue afterwards: former items keep their index, new ones follow."""
    new: tuple[str, ...]
    changed: tuple[str, ...]
    """Former items of which something else is known now."""
    retired: tuple[str, ...]
    """Items that are not listed any more."""
    returned: tuple[str, ...]
    """Items that were retired, and are listed again."""
    filters: ItemFilters | None = None
    """Attributes that requests filter by afterwards, where the run has any."""
    refiltered: int = 0
    """Former items with other values of these attributes."""

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.retired or self.returned or self.refiltered)


def find_changes(former: Catalogue, listing: Listing) -> CatalogueChange:
    """Compare a catalogue with a list of all items as they are now.

    Raises:
        DataError: None of the items is known, vectors have another length, or no value of a category is known.
    """
    known, ids = former.vocabulary.item_ids, listing.items["item_id"]
    is_known = ids.is_in(pl.Series(known, dtype=pl.String).implode())
    if not is_known.any():
        raise DataError(
            f"{listing.where}: found none of the {len(known):,} items of the run (the first: {shown(known[0])}) among"
            f" {len(ids):,} items (the first: {shown(ids[0]) if len(ids) else 'none'}), expected the catalogue that the run was"
            " made of, as it is now"
        )
    new, here = ids.filter(~is_known).sort().to_list(), set(ids)
    retired = frozenset(item_id for item_id in known if item_id not in here)
    titles = dict(zip(known, former.vocabulary.titles, strict=True))
    titles |= {item_id: title or item_id for item_id, title in listing.items.select("item_id", "title").iter_rows()}
    item_ids = (*known, *new)
    vocabulary = Vocabulary(item_ids, tuple(titles[item_id] for item_id in item_ids), retired)
    content = None
    if former.schema is not None and former.content is not None:
        _check_values(former.schema, listing)
        content = _content(former.schema, former.content, item_ids, listing)
    catalogue = Catalogue(vocabulary, former.schema, content)
    changed = tuple(item_id for item_id, other in zip(known, changed_items(former, catalogue), strict=True) if other)
    before = former.vocabulary.retired
    return CatalogueChange(catalogue, tuple(new), changed, tuple(sorted(retired - before)), tuple(sorted(before - retired)))


def grow(former: Catalogue, new: Sequence[str], listing: Listing) -> Catalogue:
    """A catalogue with further items after the former ones, which stay as they are.

    Args:
        former: The catalogue so far.
        new: Ids of the further items.
        listing: What is known of items. An item that it does not hold has its id as title, and no content.

    Raises:
        DataError: Vectors have another length.
    """
    item_ids = (*former.vocabulary.item_ids, *new)
    said = listing.items.filter(pl.col("item_id").is_in(pl.Series(list(new), dtype=pl.String).implode()))
    known = dict(said.select("item_id", "title").iter_rows())
    titles = (*former.vocabulary.titles, *(known.get(item_id) or item_id for item_id in new))
    vocabulary, content = Vocabulary(item_ids, titles, former.vocabulary.retired), former.content
    if former.schema is not None and former.content is not None:
        content = _content(former.schema, former.content, item_ids, replace(listing, items=said))
        lists = {name for name, dtype in content.features.schema.items() if isinstance(dtype, pl.List)}
        texts = former.schema.embedded
        filled = [pl.col(name).fill_null([] if name in lists else "") for name in (*lists, *texts)]
        content = replace(content, features=content.features.with_columns(filled))
    return Catalogue(vocabulary, former.schema, content)


def check_plausible(former: Catalogue, change: CatalogueChange, where: str) -> None:
    """Raise DataError where most of the items would be retired."""
    before = len(former.vocabulary) - len(former.vocabulary.retired)
    if len(change.retired) > _MOST_RETIRED * before:
        raise DataError(
            f"{where}: found no row for {len(change.retired):,} of {before:,} items of the catalogue, which would be retired;"
            " expected the whole catalogue as it is now. If that is meant, refresh with --force"
        )


def changed_items(former: Catalogue, now: Catalogue) -> NDArray[np.bool_]:
    """Which items of a catalogue are described otherwise in a later one, bool [N]."""
    count = len(former.vocabulary)
    changed: NDArray[np.bool_] = np.array(former.vocabulary.titles) != np.array(now.vocabulary.titles[:count])
    if former.content is None or now.content is None:
        return changed
    before, after = _comparable(former.content.features), _comparable(now.content.features[:count])
    for name in before.columns:
        changed |= before[name].ne_missing(after[name]).to_numpy()
    for name, vectors in former.content.vectors.items():
        changed |= (vectors != now.content.vectors[name][:count]).any(axis=1)
    return changed


def _comparable(features: pl.DataFrame) -> pl.DataFrame:
    """Features without lists: the values of a category in their order, as JSON."""
    lists = [name for name, dtype in features.schema.items() if isinstance(dtype, pl.List)]
    return features.drop("item_id").with_columns(
        pl.col(name).list.unique().list.sort().list.eval(pl.element().str.replace_all("\n", " ")).list.join("\n") for name in lists
    )


def _check_values(schema: ContentSchema, listing: Listing) -> None:
    """Raise DataError where no value of a category is known."""
    for name, values in schema.categories.items():
        found = listing.items[name].explode().drop_nulls()
        if len(found) and values and not found.is_in(pl.Series(values).implode()).any():
            raise DataError(
                f"{listing.where}: column {name!r}: found none of the {len(values):,} known values (such as {shown(values[0])}) but"
                f" others (such as {shown(found[0])}), expected the same kind of values as in the training"
            )


def _content(schema: ContentSchema, former: ItemContent, item_ids: tuple[str, ...], listing: Listing) -> ItemContent:
    """What is known of the items now: what the list says, and of others what was known before."""
    columns = [pl.col(name).fill_null("") if name in schema.embedded else pl.col(name) for name in former.features.columns]
    said = listing.items.select(columns)
    silent = former.features.filter(~pl.col("item_id").is_in(said["item_id"].implode()))
    ids = pl.DataFrame({"item_id": list(item_ids)}, schema={"item_id": pl.String})
    rows = pl.concat([said.cast(silent.schema), silent])
    features = ids.join(rows, on="item_id", how="left", maintain_order="left")
    vectors = {name: _vectors(name, former.vectors[name], ids["item_id"], listing.vectors[name]) for name in schema.vectors}
    return ItemContent(features, vectors)


def _vectors(name: str, former: NDArray[np.float32], item_ids: pl.Series, config: VectorConfig) -> NDArray[np.float32]:
    """Vectors of all items, float32 [M, size]: those of the file, and of other items the former ones."""
    ids, found = read_vectors(name, config)
    if found.shape[1] != former.shape[1]:
        raise DataError(
            f"data.vectors.{name}: {config.file}: found vectors of {found.shape[1]} numbers, expected {former.shape[1]} as in the"
            " training. Another model makes other vectors: train again"
        )
    now = np.zeros((len(item_ids), found.shape[1]), np.float32)
    now[: len(former)] = former
    rows = pl.DataFrame({"item_id": ids, "row": np.arange(len(ids))})
    places = item_ids.to_frame().join(rows, on="item_id", how="left", maintain_order="left")["row"]
    now[places.is_not_null().to_numpy()] = found[places.drop_nulls().to_numpy()]
    missing = places.is_null()[len(former) :]
    if missing.any():
        first = item_ids[len(former) :].filter(missing)[0]
        message = f"data.vectors.{name}: {int(missing.sum()):,} new item(s) have no vector (first: {shown(first)})"
        warnings.warn(message, DataWarning, stacklevel=2)
    return now


def features_of(schema: ContentSchema | None, features: FeatureConfig) -> FeatureConfig:
    """The columns that a refresh reads: those that the training has read.

    Args:
        schema: Schema of the catalogue.
        features: Settings, read for the separator alone.
    """
    if schema is None:
        return FeatureConfig()
    return FeatureConfig(
        categories=tuple(schema.categories),
        separator=features.separator,
        numbers=tuple(schema.numbers),
        texts=schema.texts,
        pictures=schema.pictures,
    )
