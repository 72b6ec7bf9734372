"""External ids of a data set's users. No model reads them; files that name users are matched by them."""

import json
from collections.abc import Sequence
from pathlib import Path

from distilrec.core.errors import DataError
from distilrec.core.files import write_text

FILE_NAME = "user_ids.json"


def save(user_ids: Sequence[str], folder: Path) -> None:
    """Write the ids, in the order of the users in the data set, into a data folder."""
    write_text(folder / FILE_NAME, json.dumps(list(user_ids), ensure_ascii=False) + "\n")


def load(folder: Path) -> tuple[str, ...]:
    """Read what ``save`` wrote.

    Raises:
        DataError: The file does not exist or cannot be parsed.
    """
    path = folder / FILE_NAME
    try:
        return tuple(str(user_id) for user_id in json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: found no ids of users ({error}). Run the stage data again.") from error
