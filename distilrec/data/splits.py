"""Which of a user's interactions are for training, validation and test. Always a cut in the user's order of time."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Cuts = tuple[NDArray[np.int64], NDArray[np.int64]]
"""For each user: position in the user's sequence where validation starts, and where test starts."""


def leave_one_out(lengths: NDArray[np.int64]) -> Cuts:
    """The last item of each user is for test, the one before for validation.

    Users with fewer than 3 items are for training only. ``lengths`` is int64 [users].
    """
    held_out = lengths >= 3
    test_start = np.where(held_out, lengths - 1, lengths)
    validation_start = np.where(held_out, lengths - 2, lengths)
    return validation_start, test_start


def temporal(timestamps: NDArray[np.float64], offsets: NDArray[np.int64], validation_fraction: float, test_fraction: float) -> Cuts:
    """One cut in time for all users, so that nothing of the future is known in training.

    Args:
        timestamps: float64 [interactions], each user's in order, users one after another.
        offsets: int64 [users + 1], where each user's interactions begin.
        validation_fraction: share of all interactions between the two cuts.
        test_fraction: share of all interactions after the test cut.
    """
    validation_time = np.quantile(timestamps, 1 - validation_fraction - test_fraction)
    test_time = np.quantile(timestamps, 1 - test_fraction)
    per_user = [timestamps[begin:end] for begin, end in pairwise(offsets)]
    validation_start = np.array([np.searchsorted(times, validation_time, side="right") for times in per_user], np.int64)
    test_start = np.array([np.searchsorted(times, test_time, side="right") for times in per_user], np.int64)
    return validation_start, test_start
