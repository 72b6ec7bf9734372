"""Section ``tune``: what is searched."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from distilrec.config.distillation import LossConfig
from distilrec.config.section import Fraction, Positive, Section
from distilrec.config.student import StudentConfig

_BY_SOFT = ("hard", "soft")
"""Losses whose weights are searched by the setting ``soft``."""
_SEARCHED_WEIGHTS = (0.0, 0.1)


def _searched_losses() -> dict[str, tuple[float, ...]]:
    """Weights to choose from for the losses that need nothing but soft targets."""
    declared = LossConfig.declared.items()
    return {name: _SEARCHED_WEIGHTS for name, loss in declared if name not in _BY_SOFT and not loss.needs_user_vectors}


class TuneConfig(Section):
    """What ``distilrec tune`` searches in section ``student``, and for how long. A list holds choices; a pair is a range.

    A second search of as many trials draws ``dropout`` and ``learning_rate`` of section ``undistilled`` for the chosen student.
    """

    trials: Positive = 20
    """Trials of each search, including those of earlier starts."""
    minutes: Annotated[float, Field(gt=0)] | None = None
    """Minutes after the start in which a new trial must be expected to end; each of the two searches has half of them."""
    kind: tuple[str, ...] = Field(default_factory=lambda: tuple(StudentConfig.kinds), min_length=1)
    """Student kinds; all that are declared by default."""
    embedding_size: tuple[Annotated[int, Field(ge=2)], ...] = Field(default=(32, 64, 128), min_length=1)
    hidden_size: tuple[Positive, ...] = Field(default=(64, 128, 256), min_length=1)
    depth: tuple[Positive, ...] = Field(default=(1, 2), min_length=1)
    dropout: tuple[Fraction, Fraction] = (0.1, 0.6)
    learning_rate: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (3e-4, 5e-3)
    """Drawn on a logarithmic scale."""
    soft: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = (0.1, 0.9)
    """Weight of the loss ``soft``; the loss ``hard`` has the rest of 1."""
    temperature: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(default=None, min_length=1)
    """Within ``targets.temperatures``, which are the default: only these are exact."""
    confidence: tuple[bool, ...] = Field(default=(False, True), min_length=1)
    losses: dict[str, Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)]] = Field(
        default_factory=_searched_losses
    )
    """Weights to choose from for each of the other losses; 0 leaves it out. By default all that need no user vectors."""
    hopeless_after: Positive = 5
    """Epochs after which a training can be stopped ..."""
    hopeless_below: Fraction = 0.5
    """... if its best NDCG@10 is below this share of that of the worst trial on the Pareto front after as many epochs; 0: never."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for kind in self.kind:
            if kind not in StudentConfig.kinds:
                raise ValueError(f"kind: found {kind!r}, expected some of {', '.join(StudentConfig.kinds)}")
        others = [name for name in LossConfig.declared if name not in _BY_SOFT]
        for name in self.losses:
            if name not in others:
                raise ValueError(f"losses: found {name!r}, expected some of {', '.join(others)}")
        for name in ("dropout", "learning_rate", "soft"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: found {[low, high]}, expected the lower end first")
        return self
