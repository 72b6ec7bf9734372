"""The search space: values that Optuna draws, and the settings made of them."""

from collections.abc import Mapping
from itertools import product
from typing import Any

import optuna
from pydantic import ValidationError

from distilrec.config import Config, StudentConfig, UndistilledConfig
from distilrec.config.faults import describe_faults
from distilrec.core.errors import ConfigError

Drawn = Mapping[str, Any]
"""Numbers, booleans and a kind by name, as Optuna stores them; empty for the student as the settings give it."""

_LOSS = "loss_"
"""Prefix of a drawn weight of a loss."""
_SIZES = ("embedding_size", "hidden_size", "depth")
"""Settings of section ``tune`` that only some kinds of student read."""


def draw(trial: optuna.Trial, config: Config) -> None:
    """Let ``trial`` choose a value for each setting that section ``tune`` searches."""
    space = config.tune
    kind = trial.suggest_categorical("kind", space.kind)
    for name in _sizes_of(kind):
        trial.suggest_categorical(name, getattr(space, name))
    trial.suggest_float("dropout", *space.dropout)
    trial.suggest_float("learning_rate", *space.learning_rate, log=True)
    trial.suggest_float("soft", *space.soft)
    trial.suggest_categorical("temperature", _temperatures(config))
    trial.suggest_categorical("confidence", space.confidence)
    for name, weights in space.losses.items():
        trial.suggest_categorical(_LOSS + name, weights)


def draw_undistilled(trial: optuna.Trial, config: Config) -> None:
    """Let ``trial`` choose how the student is trained without a teacher; what it is does not change."""
    trial.suggest_float("dropout", *config.tune.dropout)
    trial.suggest_float("learning_rate", *config.tune.learning_rate, log=True)


def with_drawn(config: Config, drawn: Drawn) -> Config:
    """The settings with the drawn student; other settings stay. Floats are rounded to three digits.

    Raises:
        ConfigError: The student and the other settings exclude each other.
    """
    if not drawn:
        return config
    student = config.student.values_for(drawn["kind"])
    soft = round(drawn["soft"], 3)
    weights = {"soft": soft, "hard": round(1 - soft, 3)}
    weights |= {name.removeprefix(_LOSS): value for name, value in drawn.items() if name.startswith(_LOSS)}
    distillation = student["distillation"]
    for name, weight in weights.items():
        given = distillation.get(name)
        distillation[name] = given | {"weight": weight} if isinstance(given, dict) and "weight" in given else weight
    distillation |= {name: drawn[name] for name in ("temperature", "confidence")}
    student |= {
        **{name: drawn[name] for name in _sizes_of(drawn["kind"])},
        **{name: float(f"{drawn[name]:.3g}") for name in ("dropout", "learning_rate")},
    }
    try:
        return Config.model_validate(config.model_dump() | {"student": student})
    except ValidationError as error:
        raise ConfigError(f"tune: cannot be searched: {'; '.join(describe_faults(error))}") from None


def with_drawn_undistilled(config: Config, drawn: Drawn) -> Config:
    """The settings with the drawn training of the student without a teacher; other settings stay. Rounded as in ``with_drawn``."""
    if not drawn:
        return config
    training = config.undistilled_student.model_dump(include=set(UndistilledConfig.model_fields))
    drawn_values = {name: float(f"{drawn[name]:.3g}") for name in ("dropout", "learning_rate")}
    return config.model_copy(update={"undistilled": UndistilledConfig.model_validate(training | drawn_values)})


def check_space(config: Config) -> None:
    """Try the corners of the space, so that invalid settings are found before the first training.

    Raises:
        ConfigError: As in ``with_drawn``.
    """
    space = config.tune
    losses = {_LOSS + name: max(weights) for name, weights in space.losses.items()}
    for kind, temperature in product(space.kind, _temperatures(config)):
        names = _sizes_of(kind)
        for sizes in product(*(getattr(space, name) for name in names)):
            for end in (0, 1):
                ends = {name: getattr(space, name)[end] for name in ("dropout", "learning_rate", "soft")}
                rest = {"kind": kind, "temperature": temperature, "confidence": space.confidence[0]}
                with_drawn(config, losses | ends | rest | dict(zip(names, sizes, strict=True)))


def describe(drawn: Drawn) -> str:
    """Drawn values in one line, for the table."""
    if not drawn:
        return "as given"
    values = {name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in drawn.items()}
    return ", ".join(value if name == "kind" else f"{name} {value}" for name, value in values.items())


def _sizes_of(kind: str) -> list[str]:
    """Searched sizes that this kind of student reads."""
    return [name for name in _SIZES if name in StudentConfig.kinds[kind].model_fields]


def _temperatures(config: Config) -> tuple[float, ...]:
    return config.tune.temperature or config.targets.temperatures
