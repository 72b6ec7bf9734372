"""Sizes of a recommender, from the settings of a run or from the manifest of what it exported."""

from distilrec.config.run import Config
from distilrec.core.errors import ConfigError
from distilrec.core.manifest import Manifest
from distilrec.core.specs import RecommenderSpec


def spec_of_run(config: Config, item_count: int, top_k: int | None = None) -> RecommenderSpec:
    """Sizes of the models of a run.

    Args:
        config: Settings of the run.
        item_count: N, the number of items in the catalogue.
        top_k: Length of the answers; the default is that of the served model. At most N items are returned.

    Raises:
        ConfigError: ``exclude_length`` is still to follow from the data (``distilrec.data.sizes.with_sizes``).
    """
    exclude_length = config.export.exclude_length
    if exclude_length == "auto":
        raise ConfigError("export.exclude_length: found 'auto', expected a number, which follows from the data. Run the stage data")
    wanted = config.export.top_k if top_k is None else top_k
    return RecommenderSpec(item_count, config.history_length, exclude_length, min(wanted, item_count))


def spec_of_artefact(manifest: Manifest) -> RecommenderSpec:
    """Sizes of an exported model, from the manifest of its stage folder."""
    sizes, item_count = manifest.settings, manifest.metrics["item_count"]
    return RecommenderSpec(item_count, sizes["history_length"], sizes["exclude_length"], min(sizes["top_k"], item_count))
