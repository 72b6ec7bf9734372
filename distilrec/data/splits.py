"""Split of each user's interactions into training, validation and test, always by cuts in the order of time."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Cuts = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Positions in each user's sequence where validation starts and where test starts, both int64 [users]."""


def leave_one_out(lengths: NDArray[np.int64]) -> Cuts:
    """Hold out the last item of each user for test and the one before for validation.

    Users with fewer than 3 items are for training only.

    Args:
        lengths: Number of items of each user, int64 [users].
    """
    held_out = lengths >= 3
    test_start = np.where(held_out, lengths - 1, lengths)
    validation_start = np.where(held_out, lengths - 2, lengths)
    return validation_start, test_start


def temporal(timestamps: NDArray[np.float64], offsets: NDArray[np.int64], validation_fraction: float, test_fraction: float) -> Cuts:
    """Cut the sequences of all users at the same two moments, so that training knows nothing of the future.

    Args:
        timestamps: Times of the interactions, float64 [interactions], users one after another, each in order of time.
        offsets: Start of each user's interactions, int64 [users + 1].
        validation_fraction: Share of all interactions between the two cuts.
        test_fraction: Share of all interactions after the test cut.
    """
    validation_time = np.quantile(timestamps, 1 - validation_fraction - test_fraction)
    test_time = np.quantile(timestamps, 1 - test_fraction)
    per_user = [timestamps[begin:end] for begin, end in pairwise(offsets)]
    validation_start = np.array([np.searchsorted(times, validation_time, side="right") for times in per_user], np.int64)
    test_start = np.array([np.searchsorted(times, test_time, side="right") for times in per_user], np.int64)
    return validation_start, test_start
