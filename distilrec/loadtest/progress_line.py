"""Progress of a running load on stderr."""

import sys
import time

from distilrec.loadtest.worker import LoadProgress

_TERMINAL_S = 0.2
_OTHERWISE_S = 5.0


class ProgressLine:
    """Progress on stderr: one line that changes on a terminal, a new line every few seconds elsewhere.

    Args:
        what: Name of the load.
        duration_s: Seconds in which requests are sent.
    """

    def __init__(self, what: str, duration_s: float) -> None:
        self._what, self._duration_s = what, duration_s
        self._on_terminal = sys.stderr.isatty()
        self._start = self._last = time.monotonic()

    def __call__(self, progress: LoadProgress) -> None:
        """Print the progress if the last line is old enough."""
        now = time.monotonic()
        if now - self._last < (_TERMINAL_S if self._on_terminal else _OTHERWISE_S):
            return
        self._last = now
        time_spent = f"{now - self._start:.0f} s of {self._duration_s:.0f} s"
        text = f"{self._what}: {time_spent}, {progress.answered} answered, {progress.failed} failed"
        print(f"\r{text}\033[K" if self._on_terminal else text, end="" if self._on_terminal else "\n", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clear the line."""
        if self._on_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
