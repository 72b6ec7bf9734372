"""Latency of single requests."""

import time
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from distilrec.core.runner import NOTHING_CHOSEN, Choices, Runner, chosen_rows

_Key = TypeVar("_Key", bound=str)
_REQUESTS = 300
_WARM_UP = 30
"""Requests before the timed ones."""


def p50_ms(
    runners: Mapping[_Key, Runner],
    history: NDArray[np.int32],
    exclude: NDArray[np.int32],
    choices: Choices = NOTHING_CHOSEN,
    *,
    requests: int = _REQUESTS,
) -> dict[_Key, float]:
    """Median milliseconds of a request of one user.

    Requests are sent one after another. The models take turns, so that a slow moment of the machine slows all of them.

    Args:
        runners: Models to time, by name.
        history: Histories of U users, who take turns, int32 [U, L].
        exclude: Items to exclude for each user, int32 [U, E].
        choices: What else each user's request chooses.
        requests: Number of timed requests for each model.
    """
    seconds: dict[_Key, list[float]] = {name: [] for name in runners}
    for request in range(_WARM_UP + requests):
        row = slice(request % len(history), request % len(history) + 1)
        chosen = chosen_rows(choices, row)
        for name, runner in runners.items():
            started = time.perf_counter()
            runner.recommend(history[row], exclude[row], chosen)
            seconds[name].append(time.perf_counter() - started)
    return {name: float(np.median(times[_WARM_UP:]) * 1000) for name, times in seconds.items()}
