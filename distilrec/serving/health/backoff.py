"""How long to wait before a server that has ended is started again."""

from collections import deque

_WINDOW_S = 60.0
"""Ends that lie further back than this count no more."""
_FIRST_S, _LONGEST_S = 0.1, 0.2
_FAILED_FIRST_S, _FAILED_LONGEST_S = 1.0, 30.0
_FAILED_STARTS = 5
"""Starts in a row that never got ready, after which no other is tried."""
_CRASHED_STARTS = 20
"""The same for starts that a crash ended: tritonserver 2.51 takes requests before it is ready, and one may have crashed it."""


class BackOff:
    """Pauses between restarts.

    A server that gets ready each time and dies again answers requests in between. So the pause stays short (none, 0.1 s,
    then 0.2 s) and the server is back soon. A server that does not get ready helps nobody: the pause doubles from 1 s to 30 s,
    and after five starts in a row without success no other is tried. A start that a crash ended is tried again after 0.2 s,
    up to twenty times in a row.
    """

    def __init__(self) -> None:
        self._ends: deque[float] = deque()
        self._failed_starts = self._crashed_starts = 0

    def after_end(self, now_s: float) -> float:
        """Seconds to wait after a ready server has ended.

        Args:
            now_s: Time of the end on a clock that only rises, in seconds.
        """
        while self._ends and now_s - self._ends[0] > _WINDOW_S:
            self._ends.popleft()
        self._ends.append(now_s)
        earlier = len(self._ends) - 1
        return min(_LONGEST_S, _FIRST_S * 2 ** (earlier - 1)) if earlier else 0.0

    def after_failed_start(self, *, crashed: bool = False) -> float | None:
        """Seconds to wait after a start that did not get ready; None when no other should be tried.

        Args:
            crashed: Whether the server crashed rather than ended by itself or took too long.
        """
        if crashed:
            self._crashed_starts += 1
            return _LONGEST_S if self._crashed_starts < _CRASHED_STARTS else None
        self._failed_starts += 1
        if self._failed_starts >= _FAILED_STARTS:
            return None
        return float(min(_FAILED_LONGEST_S, _FAILED_FIRST_S * 2 ** (self._failed_starts - 1)))

    def ready(self) -> None:
        """The server is ready: failed starts are forgotten, ends are not."""
        self._failed_starts = self._crashed_starts = 0
