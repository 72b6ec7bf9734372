"""What is going on, while a load runs."""

import sys
import time

from distilrec.load.worker import Progress

_WATCHED_S = 0.2
_UNWATCHED_S = 5.0


class ProgressLine:
    """What is going on, on stderr: one line that changes for a person, a line now and then where nobody watches.

    Args:
        what: load that is running.
        duration_s: how long it sends.
    """

    def __init__(self, what: str, duration_s: float) -> None:
        self._what, self._duration_s = what, duration_s
        self._watched = sys.stderr.isatty()
        self._start = self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        """Say it, if it is time to."""
        now = time.monotonic()
        if now - self._last < (_WATCHED_S if self._watched else _UNWATCHED_S):
            return
        self._last = now
        time_spent = f"{now - self._start:.0f} s of {self._duration_s:.0f} s"
        text = f"{self._what}: {time_spent}, {progress.answered} answered, {progress.failed} failed"
        print(f"\r{text}\033[K" if self._watched else text, end="" if self._watched else "\n", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave a clean line."""
        if self._watched:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
