"""Axis scales, their ticks, and how ticks are written."""

import pytest

from distilrec.report.svg import AxisScale, linear_scale, log_scale, short


def test_scales_by_hand():
    linear = AxisScale(0, 10, 100, 300)
    assert (linear(0), linear(5), linear(10)) == (100, 200, 300)
    logarithmic = AxisScale(1, 100, 0, 10, logarithmic=True)
    assert (logarithmic(1), logarithmic(10), logarithmic(100)) == pytest.approx((0, 5, 10))
    upside_down = AxisScale(0, 1, 200, 0)
    assert upside_down(0.25) == 150


@pytest.mark.parametrize(
    "scale",
    [
        log_scale([0.1, 143.0], 0, 1),
        log_scale([0.1, 0.15], 0, 1),
        log_scale([10_000, 1_000_000], 0, 1),
        linear_scale([0.105, 0.142], 0, 1),
        linear_scale([0.0, 2300.0], 0, 1),
        linear_scale([0.5, 0.5], 0, 1),
    ],
)
def test_ticks_are_within_the_scale_round_and_few(scale):
    ticks = scale.ticks()
    assert 3 <= len(ticks) <= 9
    assert all(scale.low * 0.99 <= tick <= scale.high * 1.01 for tick in ticks)
    assert ticks == sorted(ticks)
    assert len({short(tick) for tick in ticks}) == len(ticks)


@pytest.mark.parametrize(
    ("value", "words"), [(10_000, "10k"), (1e6, "1M"), (2_500_000, "2.5M"), (0.05, "0.05"), (1e-17, "0"), (150, "150")]
)
def test_numbers_at_ticks(value, words):
    assert short(value) == words
