"""What a load did: quantiles of latency, and whether the clients kept up; pure functions."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
"""Quantiles by the names that they have in a latency goal."""

_LATE_SHARE = 0.1
_LATE_MS = 1.0
_BUSY_SHARE = 0.85


def field(name: str) -> str:
    """Name of a quantile in JSON: ``p99_9_ms`` for ``p99.9``."""
    return f"{name.replace('.', '_')}_ms"


def answers_needed(quantile: float) -> int:
    """Answers below which a quantile would be the maximum under another name; 1 for the maximum itself."""
    return 1 if quantile >= 1 else math.ceil(round(1 / (1 - quantile), 6))


def quantile_ms(seconds: NDArray[np.float64], quantile: float) -> float | None:
    """Nearest rank, in milliseconds: the smallest latency that ``quantile`` of all do not exceed. It was seen, not interpolated.

    Args:
        seconds: float64 [answers].
        quantile: 0 < quantile <= 1.

    Returns:
        None where there are too few answers to tell (``answers_needed``).
    """
    if len(seconds) < answers_needed(quantile):
        return None
    return float(np.quantile(seconds, quantile, method="inverted_cdf") * 1000)


def latency_ms(seconds: NDArray[np.float64]) -> dict[str, float | None]:
    """All ``QUANTILES`` and the mean, in milliseconds, by their names in JSON."""
    found = {field(name): quantile_ms(seconds, quantile) for name, quantile in QUANTILES.items()}
    return found | {"mean_ms": float(seconds.mean() * 1000) if len(seconds) else None}


class Bottleneck(NamedTuple):
    """Whether the clients, rather than the server, limited what was measured."""

    found: bool
    reason: str


def client_bottleneck(late_s: NDArray[np.float64], latency_s: NDArray[np.float64], busy_shares: NDArray[np.float64]) -> Bottleneck:
    """Judge whether the clients kept up.

    They did not when they sent late (then a part of each latency is their own), or when one's event loop had something to do
    nearly all the time (then answers wait for it, and a closed loop goes at its pace).

    Args:
        late_s: float64 [sent]: seconds from the intended to the actual sending; empty in a closed loop, which intends none.
        latency_s: float64 [answers].
        busy_shares: float64 [processes]: share of the time in which the event loop ran or waited for a processor.
    """
    late, latency = quantile_ms(late_s, 0.99), quantile_ms(latency_s, 0.99)
    busy = float(busy_shares.max(initial=0.0))
    if late is not None and late > max(_LATE_MS, _LATE_SHARE * (latency or 0.0)):
        return Bottleneck(
            True,
            f"1 % of the requests were sent more than {late:.2f} ms after the intended time, which counts in their latency;"
            " give it more processes or a machine of its own, or a lower rate",
        )
    if busy > _BUSY_SHARE:
        return Bottleneck(
            True, f"a client process was busy {busy:.0%} of the time; give it more processes or a machine of its own, or less load"
        )
    sent = "" if late is None else f"99 % of the requests were sent within {late:.2f} ms of the intended time; "
    return Bottleneck(False, f"{sent}the busiest client process was busy {busy:.0%} of the time")
