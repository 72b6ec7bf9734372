"""Reading settings from presets and TOML files."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from distilrec.config.export import ExportConfig
from distilrec.config.faults import describe_faults
from distilrec.config.rollout import RolloutConfig
from distilrec.config.run import Config
from distilrec.config.section import Section
from distilrec.core.errors import ConfigError

COLD_FRACTION = 0.1
"""Share of the items that ``as_cold`` holds out."""

_S = TypeVar("_S", bound=Section)


def preset_names() -> list[str]:
    """Names of the presets that are part of DistilRec."""
    folder = resources.files("distilrec.config") / "presets"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_config(preset: str) -> Config:
    """Read a preset by name, or a TOML file by path. Relative paths in a file are relative to its folder.

    Raises:
        ConfigError: The preset or file does not exist, is not TOML, or has wrong settings (all are listed).
        MissingExtraError: A kind of student or teacher needs a package that is not installed.
    """
    text, where, folder = _read(preset)
    return parse_config(text, where=where, folder=folder)


def load_serving_config(preset: str) -> "ServingSettings":
    """Read sections ``export`` and ``rollout`` alone: a serving machine need not have what other sections need.

    Raises:
        ConfigError: as ``load_config``, of these sections.
    """
    text, where, folder = _read(preset)
    values = _parse(text, where, folder)
    return _validated(ServingSettings, {name: values[name] for name in ServingSettings.model_fields if name in values}, where)


def with_export_settings(config: Config, settings: dict[str, Any]) -> Config:
    """A copy of the settings with some of section ``export`` replaced.

    Args:
        config: Settings to copy.
        settings: New values by name; None keeps the present value.

    Raises:
        ConfigError: A value cannot be used.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    try:
        return config.model_copy(update={"export": ExportConfig.model_validate(config.export.model_dump() | given)})
    except ValidationError as error:
        raise ConfigError("options: " + "; ".join(describe_faults(error))) from None


def with_seed(config: Config, seed: int) -> Config:
    """A copy of the settings with another seed. Its run has a folder of its own, NAME-seedN, unless the seed is the same."""
    return config if seed == config.seed else config.model_copy(update={"seed": seed, "name": f"{config.name}-seed{seed}"})


def as_cold(config: Config) -> Config:
    """A copy of the settings that holds out all interactions of some items. Its run has a folder of its own, NAME-cold."""
    if config.data.cold_fraction:
        return config
    data = config.data.model_copy(update={"cold_fraction": COLD_FRACTION})
    return config.model_copy(update={"data": data, "name": f"{config.name}-cold"})


def parse_config(text: str, *, where: str, folder: Path) -> Config:
    """Parse settings from TOML text.

    Args:
        text: TOML.
        where: Name of the text in error messages.
        folder: Folder that relative paths are relative to.

    Raises:
        ConfigError: The text is not TOML, or has wrong settings (all are listed).
    """
    return _validated(Config, _parse(text, where, folder), where)


def parse_settings(values: dict[str, Any], *, where: str) -> Config:
    """Settings from values by section, as a TOML file has them; relative paths are relative to the present folder.

    Raises:
        ConfigError: Wrong settings (all are listed).
    """
    return _validated(Config, values, where)


class ServingSettings(Section):
    """Settings of what is served, and how it gets there."""

    export: ExportConfig = ExportConfig()
    rollout: RolloutConfig = RolloutConfig()


def _read(preset: str) -> tuple[str, str, Path]:
    """TOML text of a preset or file, its name in errors, and the folder that relative paths in it are relative to."""
    if preset in preset_names():
        text = (resources.files("distilrec.config") / "presets" / f"{preset}.toml").read_text(encoding="utf-8")
        return text, f"preset {preset}", Path()
    path = Path(preset)
    if not path.is_file():
        names = ", ".join(preset_names())
        raise ConfigError(f"found no preset or file {preset!r}, expected one of {names} or the path of a TOML file")
    try:
        return path.read_text(encoding="utf-8-sig"), str(path), path.parent
    except UnicodeDecodeError as error:
        found = error.object[error.start : error.start + 4]
        row = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path}: row {row}: found bytes that are not UTF-8 ({found!r}), expected TOML in UTF-8. Save it with this encoding."
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}), expected a TOML file. Check its permissions.") from error


def _parse(text: str, where: str, folder: Path) -> dict[str, Any]:
    """Values of TOML text, not yet validated, with paths below ``folder``."""
    try:
        values = tomllib.loads(text)
    except ValueError as error:  # also for a number of more than 4,300 digits
        raise ConfigError(f"{where}: not valid TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{where}: found brackets nested too deeply, expected settings in TOML") from error
    _resolve_paths(values, folder)
    return values


def _validated(settings: type[_S], values: dict[str, Any], where: str) -> _S:
    """Values as settings of this class.

    Raises:
        ConfigError: Settings with faults; the message lists all of them.
    """
    try:
        return settings.model_validate(values)
    except ValidationError as error:
        faults = describe_faults(error, settings)
        raise ConfigError(f"{where}: {len(faults)} fault(s):\n" + "\n".join(f"  {fault}" for fault in faults)) from None


def _resolve_paths(values: dict[str, Any], folder: Path) -> None:
    """Make relative paths relative to ``folder``, in place. Values of a wrong type stay, for the validation to report."""
    calibration = _section(_section(values, "export"), "calibration")
    for section, keys in (
        (_section(values, "data"), ("interactions", "items", "users")),
        (_section(values, "text"), ("model",)),
        (calibration, ("requests",)),
    ):
        for key in keys:
            if isinstance(section.get(key), str):
                section[key] = str(folder / section[key])
    vectors = _section(_section(values, "data"), "vectors")
    for section in (_section(vectors, name) for name in vectors):
        section |= {key: str(folder / section[key]) for key in ("file", "ids") if isinstance(section.get(key), str)}
    model = _section(values, "image").get("model")
    if isinstance(model, str) and (folder / model).is_dir():  # otherwise it is a name on the hub
        values["image"]["model"] = str(folder / model)
    teachers = _section(values, "teachers")
    for teacher in (_section(teachers, name) for name in teachers):
        model = teacher.get("model")
        if isinstance(model, str) and (folder / model).is_dir():  # otherwise it is a name on the hub
            teacher["model"] = str(folder / model)
        if isinstance(teacher.get("lists"), str):
            teacher["lists"] = str(folder / teacher["lists"])


def _section(values: dict[str, Any], name: str) -> dict[str, Any]:
    """The section of that name; an empty one where there is none."""
    section = values.get(name)
    return section if isinstance(section, dict) else {}
