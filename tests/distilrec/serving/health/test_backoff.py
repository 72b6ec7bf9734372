"""Pauses between restarts: short while the server gets ready, long and finite when it does not."""

from distilrec.serving.health.backoff import BackOff


def test_first_end_has_no_pause_and_repeated_ones_a_growing_short_one():
    backoff = BackOff()
    assert [backoff.after_end(float(now)) for now in range(6)] == [0, 0.1, 0.2, 0.2, 0.2, 0.2]


def test_ends_count_for_a_minute_only():
    backoff = BackOff()
    assert [backoff.after_end(now) for now in (0.0, 61.0, 62.0, 200.0)] == [0, 0, 0.1, 0]


def test_failed_starts_double_the_pause_and_end_after_five():
    backoff = BackOff()
    assert [backoff.after_failed_start() for _ in range(5)] == [1, 2, 4, 8, None]


def test_a_ready_server_forgets_failed_starts_but_not_ends():
    backoff = BackOff()
    assert (backoff.after_end(0.0), backoff.after_failed_start(), backoff.after_failed_start()) == (0, 1, 2)
    backoff.ready()
    assert (backoff.after_end(1.0), backoff.after_failed_start()) == (0.1, 1)


def test_crashed_starts_are_tried_again_soon_and_do_not_count_as_failed():
    backoff = BackOff()
    assert [backoff.after_failed_start(crashed=True) for _ in range(20)] == [0.2] * 19 + [None]
    assert backoff.after_failed_start() == 1
