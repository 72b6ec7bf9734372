"""Model processes that outlive the version they served."""

from distilrec.serving.process.processes import ModelProcess

LIMIT_S = 30.0
"""Seconds that a version may take to unload: what our clients give an answer at most (``clients.draining.DRAIN_S``)."""


class Leftovers:
    """Finds model processes that no longer serve and do not end.

    A version unloads when its last request is answered. tritonserver 2.51 loses requests whose deadline expired or that were
    cancelled, so a version that had some stays UNLOADING forever, and its processes keep their memory.

    Args:
        limit_s: Seconds that a version may take to unload.
    """

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._since: dict[ModelProcess, float] = {}

    def overdue(self, running: set[ModelProcess], unloading: set[tuple[str, int]], now_s: float) -> set[ModelProcess]:
        """Processes whose version has been unloading for longer than the limit.

        Args:
            running: Model processes of the server, read before ``unloading``.
            unloading: Models and versions that the server unloads.
            now_s: Time on a clock that only rises, in seconds.
        """
        self._since = {process: since for process, since in self._since.items() if process in running}
        for process in running:
            if (process.model, process.version) in unloading:
                self._since.setdefault(process, now_s)
        return {process for process, since in self._since.items() if now_s - since > self._limit_s}


def has_two_versions(running: set[ModelProcess]) -> bool:
    """Whether a model has processes of more than one version, as during a promotion; else nothing can be left over."""
    return len({(process.model, process.version) for process in running}) > len({process.model for process in running})
