"""The times at which requests are due; pure functions."""

import numpy as np
from numpy.typing import NDArray


def poisson_arrivals(rate_per_s: float, duration_s: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw the arrivals of independent users: a Poisson process.

    Given their number, the arrivals of a Poisson process are independent and uniform over the time.

    Args:
        rate_per_s: Mean number of arrivals per second.
        duration_s: Seconds in which they arrive.
        random: Random generator; the same seed gives the same arrivals.

    Returns:
        float64 [arrivals]: seconds from the start, rising, below ``duration_s``.
    """
    count = random.poisson(rate_per_s * duration_s)
    return np.sort(random.uniform(0.0, duration_s, count))


def deal(arrivals: NDArray[np.float64], processes: int) -> list[NDArray[np.float64]]:
    """Deal arrivals to processes like cards; the number of processes does not change when requests are sent."""
    return [arrivals[first::processes] for first in range(processes)]
