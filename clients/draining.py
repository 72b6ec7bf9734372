"""Calls that a caller can leave without the server noticing.

tritonserver 2.51 dies of calls that are cancelled, or whose deadline expires, while it works on them
(https://github.com/triton-inference-server/server/issues/7368, mended in 24.12). So the deadline on the wire is ``DRAIN_S`` later
than the caller's. A caller whose time is over leaves, and its call *drains*: it waits in the background for an answer that nobody
reads.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from clients.steps import CallFailed

DRAIN_S = 30.0
"""Seconds that a call may drain. A server that stops takes at most 10 s for what is in flight, and a served model answers in
milliseconds: what has no answer by then is most likely lost, and no longer worked on."""
MAX_DRAINING = 64
"""Calls of one client that may drain at once. Full batches keep a server busy with about 32 requests in flight; a server that owes
twice as many answers is too slow or hangs, and more requests would only queue behind them."""
CLOSE_S = 1.0
"""Seconds that closing waits for calls without an answer. Those that are left then are cancelled."""

THREAD_NAME = "distilrec-call"
_IDLE_S = 10.0
_GIVEN_UP = ("DEADLINE_EXCEEDED", "the client has stopped waiting")


def _check(timeout_s: float, draining: int) -> None:
    """Refuse a call that has no time, or that would wait behind too many others.

    It is refused at once rather than kept waiting: ``retry.call`` pauses and tries again within the caller's deadline as after any
    other overload, so a queue of waiting callers would add nothing.
    """
    if timeout_s <= 0:
        raise CallFailed(*_GIVEN_UP)
    if draining >= MAX_DRAINING:
        reason = f"found {draining} calls that were given up and still have no answer, expected fewer than {MAX_DRAINING}"
        raise CallFailed("RESOURCE_EXHAUSTED", f"{reason}; ask again later, or with a longer timeout_s")


class DrainingCalls:
    """Makes calls that the caller can leave, unlike gRPC's blocking call, which only its deadline or a cancellation ends.

    A call that is alone is made in a thread of this class, because gRPC's futures start a thread whenever nothing else is in
    flight. Calls next to others are futures, which share that thread of gRPC.
    """

    def __init__(self) -> None:
        self._alone: queue.SimpleQueue[_Ticket | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._none_open = threading.Event()
        self._thread: threading.Thread | None = None
        self._draining = self._open = 0
        self._closed = False

    def ask(self, method: Callable[..., Any], request: Any, timeout_s: float, metadata: Sequence[tuple[str, str]]) -> Any:
        """Call, and wait for the response.

        Args:
            method: method of a stub.
            request: message to send.
            timeout_s: seconds to wait.
            metadata: sent with the call.

        Raises:
            CallFailed: no answer in time, too many calls that drain, or a closed client.
            grpc.RpcError: the call failed.
            ValueError: the channel was closed before.
        """
        ticket = _Ticket(method, request, timeout_s + DRAIN_S, metadata)
        if self._admit(timeout_s):
            self._alone.put(ticket)
        else:
            self._start(ticket)
        in_time = False
        try:
            in_time = ticket.ended.acquire(timeout=min(timeout_s, threading.TIMEOUT_MAX))
        finally:
            if not in_time:  # the time is over, or the caller is interrupted
                self._leave(ticket)
        if not in_time:
            raise CallFailed(*_GIVEN_UP)
        return ticket.response()

    def close(self, close_channel: Callable[[], None]) -> None:
        """Wait up to ``CLOSE_S`` seconds for calls without an answer, close the channel, and end the thread."""
        with self._lock:
            self._closed = True
            thread, open_calls = self._thread, self._open
        if open_calls:
            self._none_open.wait(CLOSE_S)
        close_channel()
        if thread is not None:
            self._alone.put(None)
            thread.join(CLOSE_S)

    def _admit(self, timeout_s: float) -> bool:
        """Count a call; returns whether it is alone, so that the thread of this class is free and makes it."""
        with self._lock:
            if self._closed:
                raise CallFailed("CANCELLED", "the client is closed")
            _check(timeout_s, self._draining)
            self._open += 1
            if self._open > 1:
                return False
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=THREAD_NAME, daemon=True)
                self._thread.start()
            return True

    def _start(self, ticket: "_Ticket") -> None:
        try:
            future = ticket.start()
        except BaseException:
            self._end(ticket)
            raise
        future.add_done_callback(lambda _: self._end(ticket))

    def _end(self, ticket: "_Ticket") -> None:
        with self._lock:
            ticket.answered = True
            self._draining -= ticket.left
            self._open -= 1
            if self._closed and not self._open:
                self._none_open.set()
        ticket.ended.release()

    def _leave(self, ticket: "_Ticket") -> None:
        with self._lock:
            if not ticket.answered:
                ticket.left = True
                self._draining += 1

    def _work(self) -> None:
        while True:
            try:
                ticket = self._alone.get(timeout=_IDLE_S)
            except queue.Empty:
                if self._retire():
                    return
                continue
            if ticket is None:
                return
            ticket.make()
            self._end(ticket)

    def _retire(self) -> bool:
        """End the idle thread, unless a call may be on its way to it."""
        with self._lock:
            if self._open:
                return False
            self._thread = None
            return True


class _Ticket:
    """A call on its way through ``DrainingCalls``.

    Attributes:
        ended: Locked until the call has ended.
        answered: Whether it has ended.
        left: Whether its caller has stopped waiting before.
    """

    __slots__ = ("_future", "_method", "_options", "_outcome", "_request", "answered", "ended", "left")

    def __init__(self, method: Any, request: Any, wire_s: float, metadata: Sequence[tuple[str, str]]) -> None:
        self._method, self._request, self._options = method, request, {"timeout": wire_s, "metadata": metadata}
        self._future: Any = None
        self._outcome: tuple[Any, BaseException | None] = (None, None)
        self.ended = threading.Lock()
        self.ended.acquire()
        self.left = self.answered = False

    def make(self) -> None:
        """Make the call, blocking."""
        try:
            self._outcome = (self._method(self._request, **self._options), None)
        except BaseException as error:
            self._outcome = (None, error)

    def start(self) -> Any:
        """Start the call as a future of gRPC, and return that."""
        self._future = self._method.future(self._request, **self._options)
        return self._future

    def response(self) -> Any:
        """Response of the call that has ended; raises its error."""
        if self._future is not None:
            try:
                return self._future.result()
            except grpc.FutureCancelledError as error:
                raise CallFailed("CANCELLED", "the client was closed") from error
        response, failure = self._outcome
        if failure is not None:
            raise failure
        return response


class DrainingTasks:
    """Makes calls on asyncio that outlive the tasks that wait for them."""

    def __init__(self) -> None:
        self._draining: set[grpc.aio.UnaryUnaryCall[Any, Any]] = set()

    async def ask(self, method: Callable[..., Any], request: Any, timeout_s: float, metadata: Sequence[tuple[str, str]]) -> Any:
        """Call, and wait for the response.

        Args:
            method: method of a stub.
            request: message to send.
            timeout_s: seconds to wait.
            metadata: sent with the call.

        Raises:
            CallFailed: no answer in time, too many calls that drain, or a closed channel.
            grpc.aio.AioRpcError: the call failed.
            grpc.aio.UsageError: the channel was closed before.
        """
        _check(timeout_s, len(self._draining))
        call = method(request, timeout=timeout_s + DRAIN_S, metadata=metadata)
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[bool] = loop.create_future()  # to await the call itself would cancel it with the caller's task
        timer = loop.call_later(timeout_s, _settle, answered, False)
        call.add_done_callback(lambda _: _settle(answered, True))
        try:
            if not await answered:
                raise CallFailed(*_GIVEN_UP)
        finally:
            timer.cancel()
            if not call.done():
                self._draining.add(call)  # gRPC cancels calls that are garbage
                call.add_done_callback(self._draining.discard)
        if call.cancelled():
            raise CallFailed("CANCELLED", "the client was closed")
        return await call


def _settle(future: "asyncio.Future[bool]", result: bool) -> None:
    """Set the result of a future that may have one, or that was cancelled with the task that waits for it."""
    if not future.done():
        future.set_result(result)
