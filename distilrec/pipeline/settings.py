"""The settings of a run, kept in its folder, so that the folder alone says how it was made."""

import json
from pathlib import Path

from pydantic import ValidationError

from distilrec.config import Config
from distilrec.core.errors import ManifestError
from distilrec.core.files import write_text

FILE_NAME = "settings.json"


def save_settings(config: Config, folder: Path) -> None:
    """Write the settings into the run's folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / FILE_NAME, json.dumps(config.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n")


def load_settings(folder: Path) -> Config:
    """The settings of the run in a folder.

    Raises:
        ManifestError: There are none, or they are of another version of DistilRec.
    """
    path = folder / FILE_NAME
    try:
        return Config.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such file, expected the settings of a run. Give its TOML file instead.") from None
    except (ValueError, ValidationError) as error:
        raise ManifestError(f"{path}: not the settings of a run: {error}. Give its TOML file instead.") from error
