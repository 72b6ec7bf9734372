"""Requests to the version that does not answer, in the background. Where too many wait, further ones are left out."""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)

MOST_WAITING = 16


class ShadowThread:
    """Carries out conversations one after another, in a thread that starts with the first one.

    Attributes:
        left_out: Number of requests that were left out.
    """

    def __init__(self) -> None:
        self.left_out = 0
        self._waiting: queue.Queue[Callable[[], object] | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self, conversation: Callable[[], object]) -> None:
        """Carry out a conversation soon."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
                self._thread.start()
        try:
            self._waiting.put_nowait(conversation)
        except queue.Full:
            self.left_out += 1

    def close(self) -> None:
        """End after the conversation at work; those that wait are left out."""
        if self._thread is None:
            return
        while True:
            try:
                self._waiting.get_nowait()
                self.left_out += 1
            except queue.Empty:
                break
        self._waiting.put(None)
        self._thread.join(timeout=1)

    def _run(self) -> None:
        while (conversation := self._waiting.get()) is not None:
            try:
                conversation()
            except Exception:
                logger.exception("shadow: the callback failed")


class ShadowTasks:
    """As ``ShadowThread``, with tasks of the running event loop."""

    def __init__(self) -> None:
        self.left_out = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, conversation: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Carry out a conversation in a task of its own."""
        if len(self._tasks) >= MOST_WAITING:
            self.left_out += 1
            return
        task = asyncio.get_running_loop().create_task(conversation())
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    async def close(self) -> None:
        """Leave out what has no answer yet."""
        for task in (left := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("shadow: the callback failed", exc_info=error)
