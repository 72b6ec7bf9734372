"""When requests are meant to be sent; pure functions."""

import numpy as np
from numpy.typing import NDArray


def poisson_arrivals(rate_per_s: float, duration_s: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Arrivals of independent users: a Poisson process.

    Given how many there are, the arrivals of a Poisson process are independent and uniform over the time, in order.

    Args:
        rate_per_s: mean arrivals a second.
        duration_s: seconds.
        random: source of randomness; the same seed gives the same arrivals.

    Returns:
        float64 [arrivals]: seconds from the start, rising, below ``duration_s``.
    """
    count = random.poisson(rate_per_s * duration_s)
    return np.sort(random.uniform(0.0, duration_s, count))


def deal(arrivals: NDArray[np.float64], processes: int) -> list[NDArray[np.float64]]:
    """Arrivals of each process, dealt like cards: how many processes send them does not change when they are sent."""
    return [arrivals[first::processes] for first in range(processes)]
