"""All settings of a run as a TOML file that ``load_config`` reads."""

from pathlib import Path
from typing import Any

import tomli_w

from distilrec.config import Config
from distilrec.core.files import write_text


def write_preset(path: Path, config: Config, comment: str) -> None:
    """Write the settings, defaults included, so that a later default changes nothing. Paths to data become absolute."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    write_text(path, f"{head}{tomli_w.dumps(_values(config))}")


def _values(config: Config) -> dict[str, Any]:
    """What is None has this as its default, and TOML has no word for it."""
    values = config.model_dump(exclude_none=True)
    # The repository lies, like runs/, where DistilRec is started, and not beside the settings.
    values["export"]["repository"] = str(config.export.repository)
    plain = _plain(values)
    assert isinstance(plain, dict)
    return plain


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return str(value.absolute()) if isinstance(value, Path) else value
