from itertools import pairwise

import numpy as np

from distilrec.data.splits import leave_one_out, temporal


def test_leave_one_out_holds_out_the_last_two_of_each_user():
    validation_start, test_start = leave_one_out(np.array([2, 3, 10]))
    assert validation_start.tolist() == [2, 1, 8]  # two items are for training only
    assert test_start.tolist() == [2, 2, 9]


def test_temporal_cuts_all_users_at_one_time():
    offsets = np.array([0, 5, 8, 10])
    timestamps = np.array([0.0, 1, 2, 8, 9, 0, 1, 2, 8, 9])
    validation_start, test_start = temporal(timestamps, offsets, 0.2, 0.2)
    assert validation_start.tolist() == [3, 3, 0]
    for user, (begin, end) in enumerate(pairwise(offsets)):
        times = timestamps[begin:end]
        assert (times[: validation_start[user]] <= 5).all()
        assert validation_start[user] <= test_start[user] <= len(times)
    training = np.concatenate([timestamps[b : b + v] for b, v in zip(offsets[:-1], validation_start, strict=True)])
    test = np.concatenate([timestamps[b + t : e] for b, t, e in zip(offsets[:-1], test_start, offsets[1:], strict=True)])
    assert training.max() < test.min()
