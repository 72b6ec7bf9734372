"""Requests timed one by one, for a fixed time whatever they cost, so that the whole suite ends when it should."""

import itertools
import time
from typing import Any

import numpy as np

from distilrec.core.runner import Runner
from export.graph.calibration import CalibrationSet

_ROUNDS = (20, 2000)
_QUANTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99}


def time_requests(benchmark: Any, runner: Runner, requests: CalibrationSet, batch: int, budget_s: float = 1.0) -> None:
    """Ask for one batch after another, other users each time, and note the quantiles.

    Args:
        benchmark: pytest-benchmark's fixture.
        runner: who is asked.
        requests: who is asked about, in turn.
        batch: users in a request.
        budget_s: seconds to spend, unless 20 requests take longer.
    """
    starts = itertools.cycle(range(0, len(requests.history) - batch + 1, batch))

    def next_request() -> tuple[tuple[Any, Any], dict[str, Any]]:
        rows = slice(start := next(starts), start + batch)
        return (requests.history[rows], requests.exclude[rows]), {}

    rounds = round(min(max(budget_s / _seconds(runner, next_request()[0]), _ROUNDS[0]), _ROUNDS[1]))
    benchmark.pedantic(runner.recommend, setup=next_request, rounds=rounds, warmup_rounds=rounds // 10)
    benchmark.extra_info |= {"batch": batch} | quantiles_ms(benchmark.stats.stats.data)


def quantiles_ms(seconds: list[float]) -> dict[str, float]:
    """p50, p90 and p99 in milliseconds; a quantile that so few requests do not have is left out."""
    enough = {name: share for name, share in _QUANTILES.items() if len(seconds) * (1 - share) >= 1}
    return {name: float(np.quantile(seconds, share)) * 1000 for name, share in enough.items()}


def _seconds(runner: Runner, request: tuple[Any, Any]) -> float:
    """Of a request, the first ones left out."""
    for _ in range(3):
        started = time.perf_counter()
        runner.recommend(*request)
        took = time.perf_counter() - started
    return took
