"""When a server counts as one that keeps too much memory."""

from distilrec.serving.health.memory import PATIENCE_S, MemoryWatch

MB = 1_000_000


def judge(watch, *measurements):
    """What the watch says to (MB, seconds)."""
    return [watch.is_too_high(used * MB, now_s) for used, now_s in measurements]


def test_memory_that_stays_high_is_noticed_and_that_of_a_moment_is_not():
    watch = MemoryWatch(100 * MB)
    assert judge(watch, (40, 0), (141, 1), (500, 2), (140, 3), (141, 4), (141, 4 + PATIENCE_S - 0.1)) == [False] * 6
    assert judge(watch, (141, 4 + PATIENCE_S)) == [True]
    assert watch.grown_bytes == 101 * MB


def test_start_is_measured_again_after_a_restart():
    watch = MemoryWatch(100 * MB)
    judge(watch, (40, 0), (900, 1))
    watch.begin_again()
    assert judge(watch, (300, 2), (390, 99)) == [False, False]


def test_growth_of_zero_never_restarts():
    assert judge(MemoryWatch(0), (40, 0), (9000, 1), (9000, 100)) == [False] * 3
