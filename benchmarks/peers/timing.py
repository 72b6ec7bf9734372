"""Timing several recommenders fairly: in turn, in rounds, compared within each round."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Items = NDArray[np.integer[Any]]
"""Item indices [K], best first."""

Answerer = Callable[[int], Items]
"""Answers the request of a row."""


@dataclass(frozen=True)
class Times:
    """Seconds of each request: float64 [rounds, requests a round]."""

    seconds: NDArray[np.float64]

    @property
    def median_s(self) -> float:
        """Median over rounds of each round's median."""
        return float(np.median(np.median(self.seconds, axis=1)))

    def ratio_to(self, reference: "Times") -> tuple[float, float, float]:
        """How many times slower than ``reference``, round by round: median, and 10th and 90th percentile over the rounds."""
        ratios = np.median(self.seconds, axis=1) / np.median(reference.seconds, axis=1)
        low, middle, high = np.quantile(ratios, (0.1, 0.5, 0.9))
        return float(middle), float(low), float(high)


def interleaved(
    answerers: Mapping[str, Answerer], rows: int, *, rounds: int, requests: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Times]:
    """Time all of them on the same requests, one request at a time.

    Each round asks everyone, beginning with another one, so that all meet the same moments of the machine. In its turn each is
    asked several times, and once before that does not count: a model that another has just pushed out of the cache is not slow.

    Args:
        answerers: what to time, by name.
        rows: requests there are; they are asked in turn.
        rounds: of all answerers.
        requests: timed requests of each in a round.
        clock: gives seconds.
    """
    names = list(answerers)
    seconds = {name: np.empty((rounds, requests)) for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            answer = answerers[name]
            first = number * requests
            answer(first % rows)
            for place in range(requests):
                row = (first + place) % rows
                started = clock()
                answer(row)
                seconds[name][number, place] = clock() - started
    return {name: Times(values) for name, values in seconds.items()}
