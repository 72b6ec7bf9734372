"""Stage ``data``: make sequences, splits and a vocabulary from interactions and a catalogue."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from distilrec.config import Config, DataConfig
from distilrec.core.errors import DataError, DataWarning
from distilrec.core.manifest import Manifest, sha256_of_file
from distilrec.core.stage import Inputs, run_stage
from distilrec.data import attributes as user_attributes
from distilrec.data import splits
from distilrec.data import user_ids as ids_of_users
from distilrec.data.attributes import UNKNOWN, Attributes
from distilrec.data.cold import ColdInteractions, choose_cold_items
from distilrec.data.content import ContentSchema, ItemContent, find_schema
from distilrec.data.content_files import item_content
from distilrec.data.dataset import Dataset, load_dataset
from distilrec.data.files import shown
from distilrec.data.filtering import k_core
from distilrec.data.sources import fetch
from distilrec.data.tables import read_interactions, read_items, read_users
from distilrec.data.vocabulary import FILE_NAME, Vocabulary, load_vocabulary

_CONTENT_SETTINGS = {"features", "vectors", "untouched", "cold_fraction"}
"""Settings that are recorded only where they are used."""


def run(config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Write the data stage's folder.

    Raises:
        DataError: The data cannot be used; the message names file, column and row.
    """
    data = locate(config.data)
    paths = {"interactions": data.interactions, "items": data.items, "users": data.users}
    settings = config.data.model_dump(mode="json", exclude={*paths, *_CONTENT_SETTINGS}) | {"split": data.split_kind}
    settings |= config.data.content_settings()
    settings["attributes"] = list(data.attributes or ())
    paths |= data.vector_files
    for name, path in paths.items():
        settings[f"{name}_sha256"] = _sha256(path) if path else None

    def work(folder: Path, _scratch: Path) -> dict[str, Any]:
        caught: list[warnings.WarningMessage] = []
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", DataWarning)
                prepared = prepare(data)
        finally:
            # Also after an error: the warnings may explain it.
            for warning in caught:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        _check_unchanged(paths, settings)
        prepared.save(folder)
        dataset, vocabulary = prepared.dataset, prepared.vocabulary
        return {
            "users": dataset.user_count,
            "items": len(vocabulary),
            "interactions": len(dataset.items),
            "training_interactions": int(dataset.validation_start.sum()),
            "vocabulary_sha256": vocabulary.sha256,
            "warnings": [str(w.message) for w in caught if issubclass(w.category, DataWarning)],
        }

    return run_stage("data", settings=settings, seed=config.seed, inputs=inputs, out_dir=out_dir, work=work)


@dataclass(frozen=True)
class PreparedData:
    """What the data stage writes."""

    dataset: Dataset
    vocabulary: Vocabulary
    user_ids: tuple[str, ...]
    attributes: Attributes
    """Of the users."""
    content: tuple[ContentSchema, ItemContent] | None
    """Of the items; None where the settings name none."""
    cold: ColdInteractions | None
    """None where no item is held out."""

    def save(self, folder: Path) -> None:
        """Write all files."""
        self.dataset.save(folder)
        self.vocabulary.save(folder / FILE_NAME)
        ids_of_users.save(self.user_ids, folder)
        if self.attributes:
            user_attributes.save(self.attributes, folder)
        for part in (*(self.content or ()), self.cold):
            if part is not None:
                part.save(folder)


def load(folder: Path) -> tuple[Dataset, Vocabulary]:
    """Read what this stage wrote."""
    vocabulary = load_vocabulary(folder / FILE_NAME)
    return load_dataset(folder, len(vocabulary)), vocabulary


def prepare(config: DataConfig) -> PreparedData:
    """Read, filter, index and split the files that the settings name.

    Raises:
        DataError: Filtering leaves no interaction, or splitting leaves none for training.
    """
    assert config.interactions is not None  # locate fills it in
    frame = read_interactions(config.interactions, config)
    if config.max_users is not None:
        frame = frame.filter(pl.col("user_id").is_in(frame["user_id"].unique().sort().head(config.max_users).implode()))
    filtered = k_core(frame, config.k_core)
    if filtered.is_empty():
        raise DataError(
            f"{config.interactions}: found {len(frame)} interactions of {frame['user_id'].n_unique()} users with"
            f" {frame['item_id'].n_unique()} items, but no user and item with k_core = {config.k_core} of them; lower k_core"
        )
    vocabulary, content = _catalogue(filtered["item_id"], config)
    filtered = filtered.sort("user_id", maintain_order=True)
    filtered, held_out = _without_cold_items(filtered, config)
    lengths = filtered.group_by("user_id", maintain_order=True).len()["len"].to_numpy().astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = np.array(vocabulary.encode(filtered["item_id"]), np.int32)
    if config.split_kind == "leave_one_out":
        cuts = splits.leave_one_out(lengths)
    else:
        cuts = splits.temporal(filtered["timestamp"].to_numpy(), offsets, config.validation_fraction, config.test_fraction)
    dataset = Dataset(items, offsets, *cuts, item_count=len(vocabulary))
    if not (dataset.validation_start >= 2).any():
        raise DataError(
            f"{config.interactions}: found no user with two interactions before the validation cut; nothing to train on"
        )
    user_ids = filtered["user_id"].unique(maintain_order=True)
    cold = _cold_interactions(held_out, user_ids, vocabulary) if config.cold_fraction else None
    return PreparedData(dataset, vocabulary, tuple(user_ids), _attributes(user_ids, config), content, cold)


def locate(config: DataConfig) -> DataConfig:
    """The settings with the paths of a named source, which is downloaded if necessary."""
    if config.source is None:
        return config
    source = fetch(config.source)
    attributes = source.attributes if config.attributes is None else config.attributes
    found = {"interactions": source.interactions, "items": source.items, "users": source.users, "attributes": attributes}
    return config.model_copy(update=found)


def _attributes(user_ids: pl.Series, config: DataConfig) -> Attributes:
    """Attributes of the users, in the order of ``user_ids``; "unknown" for a user who is not listed."""
    if config.users is None or not config.attributes:
        return {}
    users = read_users(config.users, config.user_columns, config.attributes)
    unlisted = user_ids.filter(~user_ids.is_in(users["user_id"].implode()))
    if len(unlisted):
        message = (
            f"{config.users}: column {config.user_columns.user_id!r}: {len(unlisted)} user(s) of the interactions are not listed;"
            f" their attributes count as {UNKNOWN!r} (first: {shown(unlisted[0])})"
        )
        warnings.warn(message, DataWarning, stacklevel=2)
    joined = user_ids.to_frame().join(users, on="user_id", how="left", maintain_order="left")
    return {name: tuple(joined[name].fill_null(UNKNOWN)) for name in config.attributes}


def _sha256(path: Path) -> str:
    try:
        return sha256_of_file(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}), expected a data file. Correct the path in section [data]."
        ) from error


def _check_unchanged(paths: Mapping[str, Path | None], settings: Mapping[str, Any]) -> None:
    """Refuse files that were written while they were read: the result would be kept under the digest of the former content."""
    for name, path in paths.items():
        if path and _sha256(path) != settings[f"{name}_sha256"]:
            raise DataError(
                f"{path}: found that it was changed while it was read, expected a finished file. Run again when nothing writes it."
            )


def _without_cold_items(interactions: pl.DataFrame, config: DataConfig) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The interactions without those of the items that are held out, and these, with a column ``seen``: how many came before."""
    cold = choose_cold_items(interactions["item_id"].unique(), config.cold_fraction)
    is_cold = pl.col("item_id").is_in(cold)
    counted = interactions.with_columns((~is_cold).cum_sum().over("user_id").cast(pl.Int64).alias("seen"))
    return interactions.filter(~is_cold), counted.filter(is_cold)


def _cold_interactions(held_out: pl.DataFrame, user_ids: pl.Series, vocabulary: Vocabulary) -> ColdInteractions:
    """The held-out interactions as indices; users of whom nothing else is known are left out."""
    users = pl.DataFrame({"user_id": user_ids, "user": np.arange(len(user_ids))})
    joined = held_out.join(users, on="user_id", maintain_order="left")
    items = np.array(vocabulary.encode(joined["item_id"]), np.int32)
    return ColdInteractions(joined["user"].to_numpy().astype(np.int64), items, joined["seen"].to_numpy())


def _catalogue(item_ids: pl.Series, config: DataConfig) -> tuple[Vocabulary, tuple[ContentSchema, ItemContent] | None]:
    """The items, those with interactions first, and what is known of them."""
    ids = item_ids.unique().sort().to_list()
    catalogue = read_items(config.items, config.item_columns, config.features) if config.items else None
    if catalogue is not None and config.untouched:
        ids += catalogue["item_id"].filter(~catalogue["item_id"].is_in(pl.Series(ids).implode())).sort().to_list()
    vocabulary = _vocabulary(ids, catalogue, config)
    listed = pl.DataFrame(schema={"item_id": pl.String}) if catalogue is None else catalogue
    content = item_content(ids, listed, config.features, config.vectors)
    return vocabulary, None if content is None else (find_schema(content, config.features), content)


def _vocabulary(ids: list[str], catalogue: pl.DataFrame | None, config: DataConfig) -> Vocabulary:
    if catalogue is None:
        return Vocabulary(tuple(ids), tuple(ids))
    titles = dict(catalogue.select("item_id", "title").iter_rows())
    unlisted = [item_id for item_id in ids if item_id not in titles]
    if unlisted:
        message = (
            f"{config.items}: column {config.item_columns.item_id!r}: {len(unlisted)} item(s) of the interactions are not listed;"
            f" the id stands in for the title (first: {shown(unlisted[0])})"
        )
        warnings.warn(message, DataWarning, stacklevel=2)
    return Vocabulary(tuple(ids), tuple(titles.get(item_id) or item_id for item_id in ids))
