"""What this machine can do at most, measured: how fast it reads, and how fast it multiplies. One thread, as the models have."""

import time
from collections.abc import Callable

import torch

_REPEATS = 5
_GEMM_SIZE = 1024


def read_gb_per_s(size_bytes: int) -> float:
    """Gigabytes a second at which float32 numbers of this size can be read again and again.

    From the cache where they fit into it, which is where a small item table lies, too. The best of several ways to read.
    """
    numbers = torch.ones(max(1, size_bytes // 4))
    rows = numbers[: len(numbers) // 64 * 64].view(-1, 64)
    vector = torch.ones(64)
    ways: list[Callable[[], object]] = [numbers.sum, lambda: torch.dot(numbers, numbers), lambda: torch.mv(rows, vector)]
    return size_bytes / min(_best_seconds(way) for way in ways) / 1e9


def gemm_gflop_per_s() -> float:
    """Billions of float32 operations a second in a product of two large matrices."""
    left, right = torch.rand(2, _GEMM_SIZE, _GEMM_SIZE)
    return 2 * _GEMM_SIZE**3 / _best_seconds(lambda: torch.mm(left, right)) / 1e9


def least_ms(table_bytes: int, read_gb_s: float, flop: float = 0.0, gflop_s: float = float("inf")) -> float:
    """Milliseconds a request takes at least: the table is read once, and all products are made."""
    return max(table_bytes / read_gb_s / 1e9, flop / gflop_s / 1e9) * 1000


def _best_seconds(work: Callable[[], object]) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        work()
        took = []
        for _ in range(_REPEATS):
            started = time.perf_counter()
            work()
            took.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return min(took)
