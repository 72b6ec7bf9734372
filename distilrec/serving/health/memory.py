"""When a server keeps so much memory that it should be started again."""

PATIENCE_S = 5.0
"""Seconds for which memory must stay too high; large requests that are being answered need it for a moment."""
DEFAULT_GROWTH_MB = 256
"""Measured on tritonserver 2.51: 64 requests in flight took 5 MB more than after the start, 128 with 64 rows each 93 MB. A single
id of 100 MB left 400 MB."""


class MemoryWatch:
    """Compares a server's memory with what it took after its start.

    tritonserver keeps the buffers of large requests for the next ones, and gives them back only when its process ends.

    Args:
        growth_bytes: How much more than after the start is too much; 0 never is.
    """

    def __init__(self, growth_bytes: int) -> None:
        self._growth_bytes = growth_bytes
        self.begin_again()

    def begin_again(self) -> None:
        """Take the next measurement as the memory after the start."""
        self.grown_bytes = 0
        self._start_bytes: int | None = None
        self._high_since_s: float | None = None

    def is_too_high(self, used_bytes: int, now_s: float) -> bool:
        """Whether memory has been too high for ``PATIENCE_S`` seconds, at each measurement.

        Args:
            used_bytes: Memory that the server takes now.
            now_s: Time on a clock that only rises, in seconds.
        """
        if self._start_bytes is None:
            self._start_bytes = used_bytes
        self.grown_bytes = used_bytes - self._start_bytes
        if not self._growth_bytes or self.grown_bytes <= self._growth_bytes:
            self._high_since_s = None
            return False
        if self._high_since_s is None:
            self._high_since_s = now_s
        return now_s - self._high_since_s >= PATIENCE_S
