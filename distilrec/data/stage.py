"""Stage ``data``: make sequences, splits and a vocabulary from interactions and a catalogue."""

import logging
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from distilrec.config import Config, DataConfig
from distilrec.core.errors import DataError, DataWarning
from distilrec.core.manifest import Manifest
from distilrec.core.stage import Inputs, run_stage
from distilrec.data import attributes as user_attributes
from distilrec.data import findings, item_filters, splits
from distilrec.data import user_ids as ids_of_users
from distilrec.data.attributes import UNKNOWN, Attributes
from distilrec.data.cold import ColdInteractions, choose_cold_items
from distilrec.data.content import ContentSchema, ItemContent, find_schema
from distilrec.data.content_files import item_content
from distilrec.data.dataset import Dataset, load_dataset
from distilrec.data.events import unselected_events
from distilrec.data.files import digest_of, read_table, shown
from distilrec.data.filtering import k_core
from distilrec.data.findings import Findings
from distilrec.data.item_filters import ItemFilters, build_filters, load_filters, warn_of_missing
from distilrec.data.sources import fetch
from distilrec.data.tables import read_interactions, read_item_values, read_items, read_users
from distilrec.data.vocabulary import FILE_NAME, Vocabulary, load_vocabulary

logger = logging.getLogger(__name__)

_CONTENT_SETTINGS = {"features", "vectors", "untouched", "cold_fraction"}
"""Settings that are recorded only where they are used."""


def run(config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Write the data stage's folder.

    Raises:
        DataError: The data cannot be used; the message names file, column and row.
    """
    data = locate(config.data)
    paths = {"interactions": data.interactions, "items": data.items, "users": data.users}
    paths |= data.vector_files
    settings = _settings(config.data, data, paths)

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
        } | _found(prepared.found, data, vocabulary)

    manifest = run_stage("data", settings=settings, seed=config.seed, inputs=inputs, out_dir=out_dir, work=work)
    return _report(config, manifest, out_dir)


def _found(found: Findings, config: DataConfig, vocabulary: Vocabulary) -> dict[str, Any]:
    """Metrics of what was found in the files, which name their paths."""
    assert config.interactions is not None  # locate fills it in
    ids = [vocabulary.item_ids[0]]
    if config.items is not None:
        listed = read_table(config.items, {"item_id": config.item_columns.item_id}).frame["item_id"]
        ids += listed.cast(pl.String).drop_nulls().head(1).to_list()
    return {"found": asdict(found), "doubts": findings.doubts(found, config, unselected_events(config.interactions, config), ids)}


def _report(config: Config, manifest: Manifest, folder: Path) -> Manifest:
    """Log what was found, also where the stage had nothing to do; returns the manifest."""
    dataset, _ = load(folder)
    for line in findings.describe(findings.from_metrics(manifest.metrics), dataset, config):
        logger.info("data: %s", line)
    for doubt in manifest.metrics["doubts"]:
        logger.warning("warning: %s", doubt)
    return manifest


def _settings(config: DataConfig, located: DataConfig, paths: Mapping[str, Path | None]) -> dict[str, Any]:
    """What the data depend on, JSON-ready: the section, with the digests of the files in place of their paths."""
    settings = config.model_dump(mode="json", exclude={*paths, *_unused(located), *_CONTENT_SETTINGS})
    settings |= config.content_settings() | {"split": located.split_kind}
    settings["attributes"] = list(located.attributes or ())
    return settings | {f"{name}_sha256": _sha256(path) if path else None for name, path in paths.items()}


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
    filters: ItemFilters | None
    """Attributes of the items that requests filter by."""
    found: Findings

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
        if self.filters is not None:
            self.filters.save(folder / item_filters.FILE_NAME)


def load(folder: Path) -> tuple[Dataset, Vocabulary]:
    """Read what this stage wrote."""
    vocabulary = load_vocabulary(folder / FILE_NAME)
    return load_dataset(folder, len(vocabulary)), vocabulary


def filters_of(folder: Path) -> ItemFilters | None:
    """The table of the attributes that requests filter by, which this stage wrote; None where the settings declare none."""
    return load_filters(folder / item_filters.FILE_NAME)


def prepare_filters(vocabulary: Vocabulary, config: DataConfig) -> ItemFilters | None:
    """Read the attributes that requests filter by, of the items of a vocabulary; None where the settings declare none.

    Raises:
        DataError: A column is missing, has another type than text, numbers or lists of them, or cannot be used as a filter.
    """
    if not config.filters or config.items is None:
        return None
    catalogue = read_item_values(config.items, config.item_columns, config.filters)
    items = pl.DataFrame({"item_id": vocabulary.item_ids}).join(catalogue, on="item_id", how="left", maintain_order="left")
    values = {name: items[name].fill_null([]).to_list() for name in config.filters}
    filters = build_filters(values)
    served = [place for place, item_id in enumerate(vocabulary.item_ids) if item_id not in vocabulary.retired]
    warn_of_missing({name: [of_items[place] for place in served] for name, of_items in values.items()})
    return filters


def prepare(config: DataConfig) -> PreparedData:
    """Read, filter, index and split the files that the settings name.

    Raises:
        DataError: Filtering leaves no interaction, or splitting leaves none for training or nobody to judge models by.
    """
    read, filtered = _filtered(config)
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
    found = findings.find(read, filtered, dataset, vocabulary, config)
    _check_judged(found, config)
    user_ids = filtered["user_id"].unique(maintain_order=True)
    cold = _cold_interactions(held_out, user_ids, vocabulary) if config.cold_fraction else None
    filters, attributes = prepare_filters(vocabulary, config), attributes_of(user_ids, config)
    return PreparedData(dataset, vocabulary, tuple(user_ids), attributes, content, cold, filters, found)


def _filtered(config: DataConfig) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The interactions as they were read, and those that the settings keep."""
    assert config.interactions is not None  # locate fills it in
    frame = read = read_interactions(config.interactions, config)
    if config.consecutive_repeats == "drop":
        frame = frame.filter(~findings.repeats_in_a_row(frame))
    if config.max_users is not None:
        frame = frame.filter(pl.col("user_id").is_in(frame["user_id"].unique().sort().head(config.max_users).implode()))
    filtered = k_core(frame, config.k_core)
    if filtered.is_empty():
        medians = (frame.group_by(of).len()["len"].median() for of in ("user_id", "item_id"))
        raise DataError(
            f"{config.interactions}: found {len(frame)} interactions of {frame['user_id'].n_unique()} users with"
            f" {frame['item_id'].n_unique()} items, but no user and item with k_core = {config.k_core} of them; lower k_core"
            " (half of the users have at most {:.0f}, half of the items at most {:.0f})".format(*medians)
        )
    return read, filtered


def _check_judged(found: Findings, config: DataConfig) -> None:
    """Refuse data with nobody to judge models by: every training would end with this error, after the titles are embedded."""
    if not found.judged_validation:
        other = "temporal" if config.split_kind == "leave_one_out" else "leave_one_out"
        raise DataError(
            f"{config.interactions}: found no user of {found.users} with a new item in the validation part (split ="
            f" {config.split_kind}), expected users to judge models by. Lower data.k_core, change the split's fractions, or set"
            f' data.split = "{other}", which would leave {found.judged_otherwise} users'
        )


def locate(config: DataConfig) -> DataConfig:
    """The settings with the paths of a named source, which is downloaded if necessary."""
    if config.source is None:
        return config
    source = fetch(config.source)
    attributes = source.attributes if config.attributes is None else config.attributes
    found = {"interactions": source.interactions, "items": source.items, "users": source.users, "attributes": attributes}
    return config.model_copy(update=found)


def _unused(config: DataConfig) -> set[str]:
    """Later settings that are at their default; without them the digest of data that does not use them stays what it was."""
    later = ("date_order", "consecutive_repeats", "filters")
    return {name for name in later if getattr(config, name) == DataConfig.model_fields[name].get_default(call_default_factory=True)}


def attributes_of(user_ids: pl.Series, config: DataConfig) -> Attributes:
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
        return digest_of(path)
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
