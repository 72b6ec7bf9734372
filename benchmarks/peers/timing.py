"""Fair timing of several recommenders: they take turns in rounds, and are compared within each round."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Items = NDArray[np.integer[Any]]
"""Item indices [K], best first."""

Contender = Callable[[int], Items]
"""Recommender to compare: answers the request of the given row."""


@dataclass(frozen=True)
class ContenderTimes:
    """Seconds of each request to a contender: float64 [rounds, requests in a round]."""

    seconds: NDArray[np.float64]

    @property
    def median_s(self) -> float:
        """Median over the rounds of each round's median."""
        return float(np.median(np.median(self.seconds, axis=1)))

    def ratio_to(self, reference: "ContenderTimes") -> tuple[float, float, float]:
        """Return how many times slower than ``reference`` it is: median, 10th and 90th percentile of the rounds' ratios."""
        ratios = np.median(self.seconds, axis=1) / np.median(reference.seconds, axis=1)
        low, middle, high = np.quantile(ratios, (0.1, 0.5, 0.9))
        return float(middle), float(low), float(high)


def interleaved(
    contenders: Mapping[str, Contender], rows: int, *, rounds: int, requests: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, ContenderTimes]:
    """Time all contenders on the same requests, one request at a time.

    All contenders take a turn in each round, and each round begins with another one, so that a disturbance of the machine affects
    all of them. A turn is several requests, and one before them that does not count: a contender whose model was pushed out of the
    processor's cache by the one before it should not look slow.

    Args:
        contenders: Contenders by name.
        rows: Number of different requests, which are sent in turn.
        rounds: Number of rounds.
        requests: Number of timed requests in a turn.
        clock: Clock that returns seconds.
    """
    names = list(contenders)
    seconds = {name: np.empty((rounds, requests)) for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            answer = contenders[name]
            first = number * requests
            answer(first % rows)
            for place in range(requests):
                row = (first + place) % rows
                started = clock()
                answer(row)
                seconds[name][number, place] = clock() - started
    return {name: ContenderTimes(values) for name, values in seconds.items()}
