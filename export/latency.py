"""How long one request takes, and where that was measured."""

import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from distilrec.runner import Runner

_Key = TypeVar("_Key", bound=str)
_REQUESTS = 300
_WARM_UP = 30


def p50_ms(
    runners: Mapping[_Key, Runner], history: NDArray[np.int32], exclude: NDArray[np.int32], requests: int = _REQUESTS
) -> dict[_Key, float]:
    """Median milliseconds of a request of one user, one after another.

    The runners are asked in turn, so that all of them meet the same moments of the machine.

    Args:
        runners: what to time, by name.
        history: int32 [U, L], users that are asked about in turn.
        exclude: int32 [U, E].
        requests: timed requests for each runner, after some that are not.
    """
    seconds: dict[_Key, list[float]] = {name: [] for name in runners}
    for request in range(_WARM_UP + requests):
        row = slice(request % len(history), request % len(history) + 1)
        for name, runner in runners.items():
            started = time.perf_counter()
            runner.recommend(history[row], exclude[row])
            seconds[name].append(time.perf_counter() - started)
    return {name: float(np.median(times[_WARM_UP:]) * 1000) for name, times in seconds.items()}


def processor() -> str:
    """Name of the processor; the kernel knows it better than ``platform``."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
