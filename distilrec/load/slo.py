"""A latency goal, and the search for the highest rate that holds it; pure functions."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from distilrec.core.errors import ConfigError
from distilrec.load.statistics import QUANTILES

_PATTERN = re.compile(r"\s*(p\d+(?:\.\d+)?|max)\s*<\s*(\d+(?:\.\d+)?)\s*(us|ms|s)\s*")
_UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}

CLOSE_ENOUGH = 1.05
"""The search ends when the lowest rate that failed is at most this many times the highest that held."""


@dataclass(frozen=True)
class Slo:
    """A latency goal: a quantile must stay below a limit."""

    name: str
    """Of the quantile, one of ``QUANTILES``."""
    limit_ms: float

    @property
    def quantile(self) -> float:
        """Share of the answers that must be faster."""
        return QUANTILES[self.name]

    def __str__(self) -> str:
        return f"{self.name}<{self.limit_ms:g}ms"


def parse_slo(text: str) -> Slo:
    """Read a goal such as ``p99<10ms``.

    Raises:
        ConfigError: it says something else.
    """
    found = _PATTERN.fullmatch(text)
    if not found or found[1] not in QUANTILES or float(found[2]) == 0:
        raise ConfigError(
            f"--slo: found {text!r}, expected one of {', '.join(QUANTILES)}, a < and a time in us, ms or s, such as 'p99<10ms'"
            " (in quotes, for the shell reads < otherwise)"
        )
    return Slo(found[1], float(found[2]) * _UNITS_MS[found[3]])


class Judged(Protocol):
    """What a probe must tell."""

    @property
    def holds(self) -> bool:
        """Whether the goal was held."""
        ...


ProbeT = TypeVar("ProbeT", bound=Judged)


@dataclass
class Search(Generic[ProbeT]):
    """What a search has found so far."""

    probes: list[tuple[float, ProbeT]] = field(default_factory=list)
    """Rates and what happened at them, in the order they were tried."""
    complete: bool = False
    """Whether the limit is known as closely as wanted; else the probes ran out."""

    @property
    def highest_held(self) -> float | None:
        """Highest rate that held the goal below all that did not; None where none did."""
        lowest_failed = self.lowest_failed or math.inf
        return max((rate for rate, probe in self.probes if probe.holds and rate < lowest_failed), default=None)

    @property
    def lowest_failed(self) -> float | None:
        """Lowest rate that did not hold it; None where all did."""
        return min((rate for rate, probe in self.probes if not probe.holds), default=None)


def search_rate(
    probe: Callable[[float], ProbeT],
    first_rate: float,
    search: Search[ProbeT],
    *,
    most_probes: int,
    lowest_rate: float = 0.0,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Search the highest rate that holds a goal: double or halve until it lies between two rates, then bisect.

    Rates grow in proportion, so the middle of two is their geometric mean.

    Args:
        probe: puts a rate on the server and judges it.
        first_rate: where to begin.
        search: gets every probe as it ends, so that what was found survives an interruption.
        most_probes: bound of the search.
        lowest_rate: lower ones are not tried.
        stop: whether to end now; what a probe found meanwhile does not count.
    """
    rate = first_rate
    for _ in range(most_probes):
        found = probe(rate)
        if stop():
            return
        search.probes.append((rate, found))
        held, failed = search.highest_held, search.lowest_failed
        if failed is None:
            rate *= 2
        elif held is None:
            rate = failed / 2
            if rate < lowest_rate:
                return
        elif failed <= held * CLOSE_ENOUGH:
            search.complete = True
            return
        else:
            rate = math.sqrt(held * failed)
