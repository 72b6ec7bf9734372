"""Weights of the teachers in a mixture, on disk: weights.json holds the weight of each teacher that stays by its name."""

import json
from collections.abc import Mapping
from pathlib import Path

from distilrec.core.errors import ManifestError
from distilrec.core.files import write_text

FILE_NAME = "weights.json"


def write_weights(folder: Path, weights: Mapping[str, float]) -> None:
    """Write the file into an existing folder."""
    write_text(folder / FILE_NAME, json.dumps(weights, indent=2) + "\n")


def read_weights(folder: Path) -> dict[str, float]:
    """Weights that the stage in ``folder`` found.

    Raises:
        ManifestError: There is no such file.
    """
    try:
        weights: dict[str, float] = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ManifestError(
            f"{folder}: found no {FILE_NAME}, expected the weights of the teachers. Run `distilrec run`."
        ) from error
    return weights
