"""Measured limits of this machine on one thread: how fast it reads memory, and how fast it multiplies matrices."""

import time
from collections.abc import Callable

import torch

_REPEATS = 5
"""Repetitions of a measurement, of which the fastest counts: all others were disturbed."""
_GEMM_SIZE = 1024
"""Rows and columns of the multiplied matrices: large enough for the processor's full speed."""
_VECTOR_SIZE = 64
"""Width of the rows that are read: a usual embedding size."""
_FLOAT32_BYTES = 4


def read_gb_per_s(size_bytes: int) -> float:
    """Measure the gigabytes a second at which float32 numbers can be read repeatedly; the best of several ways to read.

    Numbers that fit into the processor's cache are read from there, as a small item table is.

    Args:
        size_bytes: Size of the numbers.
    """
    numbers = torch.ones(max(1, size_bytes // _FLOAT32_BYTES))
    rows = numbers[: len(numbers) // _VECTOR_SIZE * _VECTOR_SIZE].view(-1, _VECTOR_SIZE)
    vector = torch.ones(_VECTOR_SIZE)
    ways: list[Callable[[], object]] = [numbers.sum, lambda: torch.dot(numbers, numbers), lambda: torch.mv(rows, vector)]
    return size_bytes / min(_best_seconds(way) for way in ways) / 1e9


def gemm_gflop_per_s() -> float:
    """Measure the billions of float32 operations a second in a product of two large matrices."""
    left, right = torch.rand(2, _GEMM_SIZE, _GEMM_SIZE)
    return 2 * _GEMM_SIZE**3 / _best_seconds(lambda: torch.mm(left, right)) / 1e9


def least_ms(table_bytes: int, read_gb_s: float, flop: float = 0.0, gflop_s: float = float("inf")) -> float:
    """Return the least milliseconds of a request: the longer of reading the table once and computing all products.

    Args:
        table_bytes: Size of the item table.
        read_gb_s: Gigabytes read a second.
        flop: Floating-point operations of the request.
        gflop_s: Billions of floating-point operations a second.
    """
    return max(table_bytes / read_gb_s / 1e9, flop / gflop_s / 1e9) * 1000


def _best_seconds(work: Callable[[], object]) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        work()
        seconds = []
        for _ in range(_REPEATS):
            started = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return min(seconds)
