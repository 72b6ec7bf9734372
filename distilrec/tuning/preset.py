"""All settings of a run as a TOML file that ``load_config`` reads."""

from pathlib import Path
from typing import Any

import tomli_w

from distilrec.config import Config
from distilrec.core.files import write_text


def write_preset(path: Path, config: Config, comment: str) -> None:
    """Write the settings with all defaults, so that a changed default has no effect. Paths to data become absolute."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    write_text(path, f"{head}{tomli_w.dumps(_values(config))}")


def _values(config: Config) -> dict[str, Any]:
    """Settings as TOML values; those that are None are left out, because TOML has no null and None is their default."""
    values = config.model_dump(exclude_none=True)
    # Like runs/, the repository is relative to the working directory, not to the settings.
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
