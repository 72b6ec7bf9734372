"""A latency goal, and the search for the highest rate that holds it; pure functions."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from distilrec.core.errors import ConfigError
from distilrec.loadtest.statistics import QUANTILES

_PATTERN = re.compile(r"\s*(p\d+(?:\.\d+)?|max)\s*<\s*(\d+(?:\.\d+)?)\s*(us|ms|s)\s*")
_UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}

CLOSE_ENOUGH = 1.05
"""The search ends when the lowest rate that failed is at most this many times the highest that held."""


@dataclass(frozen=True)
class Slo:
    """A latency goal: a quantile must stay below a limit."""

    name: str
    """Name of the quantile, one of ``QUANTILES``."""
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
        ConfigError: the text is not a goal.
    """
    found = _PATTERN.fullmatch(text)
    if not found or found[1] not in QUANTILES or float(found[2]) == 0:
        raise ConfigError(
            f"--slo: found {text!r}, expected one of {', '.join(QUANTILES)}, a < and a time in us, ms or s, such as 'p99<10ms'"
            " (in quotes, for the shell reads < otherwise)"
        )
    return Slo(found[1], float(found[2]) * _UNITS_MS[found[3]])


class Probe(Protocol):
    """The measurement at one rate of a search."""

    @property
    def holds(self) -> bool:
        """Whether the goal was held."""
        ...


ProbeT = TypeVar("ProbeT", bound=Probe)


@dataclass
class Search(Generic[ProbeT]):
    """The probes of a search so far, and the bounds that they give."""

    probes: list[tuple[float, ProbeT]] = field(default_factory=list)
    """Rates in requests per second and their measurements, in the order they were tried."""
    complete: bool = False
    """Whether the limit is known to within ``CLOSE_ENOUGH``; false if the probes ran out before."""

    @property
    def highest_held(self) -> float | None:
        """Highest rate that held the goal and lies below all rates that failed; None if there is none."""
        lowest_failed = self.lowest_failed or math.inf
        return max((rate for rate, probe in self.probes if probe.holds and rate < lowest_failed), default=None)

    @property
    def lowest_failed(self) -> float | None:
        """Lowest rate that failed the goal; None if there is none."""
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
        probe: Function that puts a rate on the server and measures it.
        first_rate: Rate to begin with, in requests per second.
        search: Object that gets every probe as it ends, so that results survive an interruption.
        most_probes: Largest number of probes.
        lowest_rate: Lowest rate to try.
        stop: Function that says whether to end now; a probe during which it becomes true does not count.
    """
    rate = first_rate
    for _ in range(most_probes):
        measured = probe(rate)
        if stop():
            return
        search.probes.append((rate, measured))
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
