"""Reading settings from presets and TOML files."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from distilrec.config.export import ExportConfig
from distilrec.config.faults import describe_faults
from distilrec.config.run import Config
from distilrec.config.section import Section
from distilrec.core.errors import ConfigError

_S = TypeVar("_S", bound=Section)


def preset_names() -> list[str]:
    """Names of the presets that come with DistilRec."""
    folder = resources.files("distilrec.config") / "presets"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_config(preset: str) -> Config:
    """Read a preset by name, or a TOML file by path. Relative paths to data and requests are taken from the file's folder.

    Raises:
        ConfigError: no such preset or file, not TOML, or settings with faults (all are listed).
        MissingExtraError: a kind of student or teacher needs a package that is not installed.
    """
    text, where, folder = _read(preset)
    return parse_config(text, where=where, folder=folder)


def load_export_config(preset: str) -> ExportConfig:
    """Read section ``export`` alone, as ``load_config`` does: a serving machine need not have what other sections need.

    Raises:
        ConfigError: as ``load_config``, of this section.
    """
    text, where, folder = _read(preset)
    values = _parse(text, where, folder)
    return _validated(_ExportSettings, {"export": values.get("export", {})}, where).export


def with_export_settings(config: Config, settings: dict[str, Any]) -> Config:
    """The same settings with some of section ``export`` replaced; None leaves one as it is.

    Raises:
        ConfigError: a value that cannot be used.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    try:
        return config.model_copy(update={"export": ExportConfig.model_validate(config.export.model_dump() | given)})
    except ValidationError as error:
        raise ConfigError("options: " + "; ".join(describe_faults(error))) from None


def with_seed(config: Config, seed: int) -> Config:
    """The same settings with another seed. A run with a seed that is not the preset's has a folder of its own, NAME-seedN."""
    return config if seed == config.seed else config.model_copy(update={"seed": seed, "name": f"{config.name}-seed{seed}"})


def parse_config(text: str, *, where: str, folder: Path) -> Config:
    """Settings from TOML text; ``where`` names it in errors, ``folder`` is what relative data paths are relative to."""
    return _validated(Config, _parse(text, where, folder), where)


class _ExportSettings(Section):
    """Settings of which only the export is read."""

    export: ExportConfig


def _read(preset: str) -> tuple[str, str, Path]:
    """TOML text of a preset or file, its name in errors, and the folder that relative paths in it are relative to."""
    if preset in preset_names():
        text = (resources.files("distilrec.config") / "presets" / f"{preset}.toml").read_text(encoding="utf-8")
        return text, f"preset {preset}", Path()
    path = Path(preset)
    if not path.is_file():
        names = ", ".join(preset_names())
        raise ConfigError(f"found no preset or file {preset!r}, expected one of {names} or the path of a TOML file")
    return path.read_text(encoding="utf-8"), str(path), path.parent


def _parse(text: str, where: str, folder: Path) -> dict[str, Any]:
    """Values of TOML text, not yet validated, with paths below ``folder``."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not valid TOML: {error}") from error
    calibration = values["export"].get("calibration") if isinstance(values.get("export"), dict) else None
    paths = (
        (values.get("data"), ("interactions", "items", "users")),
        (values.get("text"), ("model",)),
        (calibration, ("requests",)),
    )
    for section, keys in paths:
        for key in keys:
            if isinstance(section, dict) and isinstance(section.get(key), str):
                section[key] = str(folder / section[key])
    for teacher in values["teachers"].values() if isinstance(values.get("teachers"), dict) else ():
        name = teacher.get("model") if isinstance(teacher, dict) else None
        if isinstance(name, str) and (folder / name).is_dir():  # else a name on the hub
            teacher["model"] = str(folder / name)
    return values


def _validated(settings: type[_S], values: dict[str, Any], where: str) -> _S:
    """Values as settings of this class.

    Raises:
        ConfigError: Settings with faults; the message lists all of them.
    """
    try:
        return settings.model_validate(values)
    except ValidationError as error:
        faults = describe_faults(error)
        raise ConfigError(f"{where}: {len(faults)} fault(s):\n" + "\n".join(f"  {fault}" for fault in faults)) from None
