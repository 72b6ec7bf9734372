"""Timing of single requests for a fixed time, so that the duration of the suite does not depend on the models."""

import itertools
import time
from typing import Any

import numpy as np

from distilrec.core.runner import Runner
from export.graph.calibration import CalibrationSet

_ROUNDS = (20, 2000)
"""Fewest and most timed requests: enough for p90, and more than enough for p99."""
_WARMUP_SHARE = 10
"""One warm-up request for so many timed ones."""
_QUANTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99}


def time_requests(benchmark: Any, runner: Runner, requests: CalibrationSet, batch: int, budget_s: float = 1.0) -> None:
    """Send one batch after another, of other users each time, and note the quantiles of their times.

    Args:
        benchmark: Fixture of pytest-benchmark.
        runner: Model to time.
        requests: Users whose requests are sent in turn.
        batch: Number of users in a request.
        budget_s: Seconds to spend, unless 20 requests take longer.
    """
    starts = itertools.cycle(range(0, len(requests.history) - batch + 1, batch))

    def next_request() -> tuple[tuple[Any, Any], dict[str, Any]]:
        rows = slice(start := next(starts), start + batch)
        return (requests.history[rows], requests.exclude[rows]), {}

    rounds = round(min(max(budget_s / _seconds(runner, next_request()[0]), _ROUNDS[0]), _ROUNDS[1]))
    benchmark.pedantic(runner.recommend, setup=next_request, rounds=rounds, warmup_rounds=rounds // _WARMUP_SHARE)
    benchmark.extra_info |= {"batch": batch} | quantiles_ms(benchmark.stats.stats.data)


def quantiles_ms(seconds: list[float]) -> dict[str, float]:
    """Return p50, p90 and p99 in milliseconds; quantiles for which there are too few requests are left out."""
    enough = {name: share for name, share in _QUANTILES.items() if len(seconds) * (1 - share) >= 1}
    return {name: float(np.quantile(seconds, share)) * 1000 for name, share in enough.items()}


def _seconds(runner: Runner, request: tuple[Any, Any]) -> float:
    """Return the seconds of one request after two that warm the model up."""
    for _ in range(3):
        started = time.perf_counter()
        runner.recommend(*request)
        took = time.perf_counter() - started
    return took
