"""Statistics of a load: quantiles of latency, and whether the clients kept up; pure functions."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
"""Quantiles by their names in a latency goal."""

_LATE_SHARE = 0.1
_LATE_MS = 1.0
_BUSY_SHARE = 0.85


def field(name: str) -> str:
    """Return the name of a quantile in JSON: ``p99_9_ms`` for ``p99.9``."""
    return f"{name.replace('.', '_')}_ms"


def answers_needed(quantile: float) -> int:
    """Return how many answers a quantile needs; with fewer it would equal the maximum. 1 for the maximum itself."""
    return 1 if quantile >= 1 else math.ceil(round(1 / (1 - quantile), 6))


def quantile_ms(seconds: NDArray[np.float64], quantile: float) -> float | None:
    """Return a quantile by nearest rank: the smallest measured latency that a share ``quantile`` of all does not exceed.

    Args:
        seconds: float64 [answers]: latencies in seconds.
        quantile: Share, 0 < quantile <= 1.

    Returns:
        Milliseconds; None if there are too few answers (``answers_needed``).
    """
    if len(seconds) < answers_needed(quantile):
        return None
    return float(np.quantile(seconds, quantile, method="inverted_cdf") * 1000)


def latency_ms(seconds: NDArray[np.float64]) -> dict[str, float | None]:
    """Return all ``QUANTILES`` and the mean in milliseconds, by their names in JSON."""
    quantiles = {field(name): quantile_ms(seconds, quantile) for name, quantile in QUANTILES.items()}
    return quantiles | {"mean_ms": float(seconds.mean() * 1000) if len(seconds) else None}


class Bottleneck(NamedTuple):
    """Whether the clients, rather than the server, limited what was measured."""

    found: bool
    reason: str


def client_bottleneck(late_s: NDArray[np.float64], latency_s: NDArray[np.float64], busy_shares: NDArray[np.float64]) -> Bottleneck:
    """Judge whether the clients kept up.

    They did not if they sent late, so that part of each latency is their own, or if one event loop was busy nearly all the time, so
    that answers waited for it and a closed loop ran at its pace.

    Args:
        late_s: float64 [sent]: seconds from the intended to the actual sending; empty in a closed loop, which has no intended time.
        latency_s: float64 [answers]: latencies in seconds.
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
