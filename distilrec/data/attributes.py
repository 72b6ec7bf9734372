"""Attributes of users, such as age: they define groups of users for evaluation, and are no input of any model."""

import json
from collections.abc import Mapping
from pathlib import Path

from distilrec.core.errors import DataError
from distilrec.core.files import write_text

FILE_NAME = "attributes.json"

UNKNOWN = "unknown"
"""Value of an attribute that is not known of a user."""

Attributes = Mapping[str, tuple[str, ...]]
"""For each attribute one value for each user, in the order of the users in the data set."""


def save(attributes: Attributes, folder: Path) -> None:
    """Write the attributes as JSON into a data folder."""
    write_text(folder / FILE_NAME, json.dumps(attributes, ensure_ascii=False) + "\n")


def load(folder: Path) -> Attributes:
    """Read what ``save`` wrote; empty where the data has no attributes.

    Raises:
        DataError: The file cannot be parsed.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return {}
    try:
        return {str(name): tuple(str(value) for value in values) for name, values in json.loads(path.read_text("utf-8")).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: found no attributes of users ({error}). Run the stage data again.") from error
