"""Progress of all long steps: a bar in a terminal, plain lines with times elsewhere, such as in a log file."""

import sys
import time
from collections.abc import Iterator
from typing import Any

TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
"""Local time at the start of each line that does not go to a terminal."""

_LINE_EVERY_S = 30.0


def progress(iterable: Any = None, **options: Any) -> Any:
    """A tqdm bar on stderr in a terminal, else an object that writes a line every 30 seconds.

    Args:
        iterable: Iterable to wrap; None for a bar that is updated by hand.
        options: Further arguments of ``tqdm``; without a terminal ``total``, ``initial``, ``desc`` and ``unit`` count.
    """
    if not is_interactive():
        return ProgressLines(iterable, **options)
    from tqdm import tqdm  # here, because it is optional: serving and promotion work without it

    return tqdm(iterable, mininterval=0.1, dynamic_ncols=True, **options)


def is_interactive() -> bool:
    """Whether stderr is a terminal."""
    return sys.stderr.isatty()


def say(text: str) -> None:
    """Write a line to stderr, with the time where that is no terminal."""
    begin = "" if is_interactive() else f"{time.strftime(TIME_FORMAT)} "
    print(f"{begin}{text}", file=sys.stderr, flush=True)


class ProgressLines:
    """What ``tqdm`` is in a terminal, as lines: "title embeddings: 320 of 900 (batch), 31 s". A short step writes none.

    Args:
        iterable: Iterable to wrap; None for progress that is updated by hand.
        total: Number of steps; the default is the length of the iterable, where it has one.
        initial: Number of steps that were done before.
        desc: What is done.
        unit: Name of one step.
        every_s: Seconds between two lines.
    """

    def __init__(
        self,
        iterable: Any = None,
        *,
        total: int | None = None,
        initial: int = 0,
        desc: str = "progress",
        unit: str = "step",
        every_s: float = _LINE_EVERY_S,
        **_: Any,
    ) -> None:
        self.total = len(iterable) if total is None and hasattr(iterable, "__len__") else total
        self._iterable, self._done, self._desc, self._unit, self._every_s = iterable, initial, desc, unit, every_s
        self._start = self._last = time.monotonic()
        self._said_at: int | None = None

    def __iter__(self) -> Iterator[Any]:
        with self:
            for entry in self._iterable:
                yield entry
                self.update()

    def __enter__(self) -> "ProgressLines":
        return self

    def __exit__(self, *_: object) -> None:
        if self._said_at not in (None, self._done):
            self._say()

    def update(self, steps: int = 1) -> None:
        """Count steps that are done."""
        self._done += steps
        if time.monotonic() - self._last >= self._every_s:
            self._say()

    def set_postfix_str(self, *_: Any, **__: Any) -> None:
        """Do nothing: a line has no room for details."""

    def _say(self) -> None:
        self._last, self._said_at = time.monotonic(), self._done
        of = "" if self.total is None else f" of {self.total:,}"
        say(f"{self._desc}: {self._done:,}{of} ({self._unit}), {self._last - self._start:.0f} s")
