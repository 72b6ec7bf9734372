"""What is known of users beside what they did: groups to judge a model by, never an input of one."""

import json
from collections.abc import Mapping
from pathlib import Path

from distilrec.core.errors import DataError
from distilrec.core.files import write_text

FILE_NAME = "attributes.json"

UNKNOWN = "unknown"
"""Value of an attribute that a user does not have."""

Attributes = Mapping[str, tuple[str, ...]]
"""For each attribute one value a user, in the order of the data set's users."""


def save(attributes: Attributes, folder: Path) -> None:
    """Write as JSON into a data folder."""
    write_text(folder / FILE_NAME, json.dumps(attributes, ensure_ascii=False) + "\n")


def load(folder: Path) -> Attributes:
    """Read what ``save`` wrote; nothing where the data has no attributes.

    Raises:
        DataError: the file cannot be understood.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return {}
    try:
        return {str(name): tuple(str(value) for value in values) for name, values in json.loads(path.read_text("utf-8")).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: found no attributes of users ({error}). Run the stage data again.") from error
