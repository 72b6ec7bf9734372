"""Sizes of a recommender, from the settings of a run or from the manifest of what it exported."""

from typing import Any

from distilrec.config.run import Config
from distilrec.core.errors import ConfigError
from distilrec.core.manifest import Manifest
from distilrec.core.specs import CHOICE_SIZES, RecommenderSpec


def spec_of_run(config: Config, item_count: int, top_k: int | None = None) -> RecommenderSpec:
    """Sizes of the models of a run.

    Args:
        config: Settings of the run.
        item_count: N, the number of items in the catalogue.
        top_k: Length of the answers; the default is that of the served model. At most N items are returned.

    Raises:
        ConfigError: ``exclude_length`` is still to follow from the data (``distilrec.data.sizes.with_sizes``).
    """
    export = config.export
    if export.exclude_length == "auto":
        raise ConfigError("export.exclude_length: found 'auto', expected a number, which follows from the data. Run the stage data")
    wanted = export.top_k if top_k is None else top_k
    sizes = (item_count, config.history_length, export.exclude_length, min(wanted, item_count))
    return RecommenderSpec(*sizes, **choice_sizes(config))


def choice_sizes(config: Config) -> dict[str, Any]:
    """The sizes of a run's optional tensors, by field of ``RecommenderSpec``; those that its models do not have are left out."""
    export = config.export
    sizes = {
        "filter_length": export.filter_length if config.data.filters else 0,
        "allow_length": export.allow_length,
        "repeats": export.repeats == "allow",
        "similar": export.similar,
    }
    return {name: size for name, size in sizes.items() if size}


def spec_of_artefact(manifest: Manifest) -> RecommenderSpec:
    """Sizes of an exported model, from the manifest of its stage folder."""
    sizes, item_count = manifest.settings, manifest.metrics["item_count"]
    choices = {name: sizes[name] for name in CHOICE_SIZES if name in sizes}
    return RecommenderSpec(item_count, sizes["history_length"], sizes["exclude_length"], min(sizes["top_k"], item_count), **choices)


def judged_with(config: Config) -> dict[str, Any]:
    """Settings of a stage that ranks held-out users, which are not those of every run: whether seen items may be repeated."""
    return {"repeats": config.export.repeats} if config.export.repeats != "never" else {}
