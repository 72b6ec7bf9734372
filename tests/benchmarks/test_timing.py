"""Quantiles of timed requests."""

import pytest

from benchmarks.timing import quantiles_ms


def test_quantiles_are_left_out_where_too_few_were_timed():
    assert quantiles_ms([0.001 * second for second in range(1, 101)]) == pytest.approx(
        {"p50_ms": 50.5, "p90_ms": 90.1, "p99_ms": 99.01}
    )
    assert set(quantiles_ms([0.001] * 20)) == {"p50_ms", "p90_ms"}
