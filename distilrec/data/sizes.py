"""Sizes of requests that follow from the data."""

from distilrec.config import Config
from distilrec.data.dataset import Dataset, exclude_length_for, older_items


def with_sizes(config: Config, dataset: Dataset) -> Config:
    """The settings with the ``exclude_length`` that follows from the data, where they leave it to the data.

    Args:
        config: Settings of a run.
        dataset: Sequences of the run.
    """
    if config.export.exclude_length != "auto":
        return config
    length = exclude_length_for(older_items(dataset, config.history_length), dataset.item_count, config.history_length)
    return config.model_copy(update={"export": config.export.model_copy(update={"exclude_length": length})})
