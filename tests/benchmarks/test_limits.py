"""The least time of a request on a machine."""

import pytest

from benchmarks.limits import least_ms


def test_least_time_is_the_longer_of_reading_and_multiplying():
    assert least_ms(20_000_000, 20.0) == pytest.approx(1.0)
    assert least_ms(20_000_000, 20.0, flop=3e8, gflop_s=100.0) == pytest.approx(3.0)
    assert least_ms(20_000_000, 20.0, flop=1e7, gflop_s=100.0) == pytest.approx(1.0)
