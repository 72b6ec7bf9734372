"""Interleaved timing of contenders, and their ratios."""

import numpy as np

from benchmarks.peers.timing import ContenderTimes, interleaved


class Clock:
    """A clock that advances only while a contender works."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_all_are_asked_the_same_requests_in_turn():
    clock, asked = Clock(), []

    def answerer(name, seconds):
        def answer(row):
            asked.append((name, row))
            clock.now += seconds
            return np.array([row])

        return answer

    times = interleaved({"a": answerer("a", 1.0), "b": answerer("b", 3.0)}, rows=4, rounds=4, requests=3, clock=clock)
    assert times["b"].ratio_to(times["a"]) == (3.0, 3.0, 3.0)
    assert times["a"].median_s == 1.0
    assert times["a"].seconds.shape == (4, 3)
    rows = {name: [row for who, row in asked if who == name] for name in "ab"}
    assert rows["a"] == rows["b"]
    assert rows["a"][:8] == [0, 0, 1, 2, 3, 3, 0, 1], "one before each turn does not count"
    assert [name for name, _ in asked[::4]] == ["a", "b", "b", "a", "a", "b", "b", "a"], "each round begins with another"


def test_ratio_is_taken_within_rounds():
    # The machine slows down to a third in the second half: both get slower, and none of it is in the ratio.
    reference = ContenderTimes(np.array([[1.0], [1.0], [3.0], [3.0]]))
    assert ContenderTimes(2 * reference.seconds).ratio_to(reference) == (2.0, 2.0, 2.0)
    # One disturbed round is not in the median, but in the spread.
    middle, _, high = ContenderTimes(np.array([[2.0], [2.0], [6.0], [600.0]])).ratio_to(reference)
    assert (middle, high > 50) == (2.0, True)
