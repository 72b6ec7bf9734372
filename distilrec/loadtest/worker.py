"""One client process: a gRPC channel, requests made in advance, and an event loop that sends them when they are due.

Nothing else happens between two requests, so that the client adds little to what it measures.
"""

import asyncio
import contextlib
import functools
import selectors
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from clients.connection import Connection, open_aio_channel
from clients.draining import CLOSE_S, DrainingTasks
from clients.steps import CallFailed
from clients.wire import infer_request
from distilrec.core.runner import chosen_rows
from distilrec.core.specs import PADDING, RecommenderSpec
from distilrec.loadtest.histories import draw_filters, draw_histories

NOT_SENT = "NOT_SENT"
"""Error of a request that was due but not sent, because the client was too far behind."""

_REQUESTS = 1024  # different ones; they repeat after that
_WARM_UP_REQUESTS = 5
_PROGRESS_S = 0.5
_NANOSECONDS = 1e-9


@dataclass(frozen=True)
class LoadShare:
    """The part of a load that one client process sends."""

    start: float
    """Start of the load in seconds of ``time.monotonic()``, which is the same in all processes of a machine."""
    duration_s: float
    arrivals: NDArray[np.float64] | None
    """float64 [requests]: seconds from the start; None in a closed loop."""
    concurrency: int
    """Requests in flight of a closed loop; 0 in an open one."""


@dataclass(frozen=True)
class LoadProgress:
    """Requests that were answered and that failed so far."""

    answered: int
    failed: int


@dataclass(frozen=True)
class WorkerResult:
    """What a client process measured."""

    due: int
    """Requests that were due until the end."""
    late_s: NDArray[np.float64]
    """float64 [sent]: seconds from the intended to the actual sending; empty in a closed loop."""
    latency_s: NDArray[np.float64]
    """float64 [answered]: seconds from the intended sending (closed loop: the sending) to the answer."""
    errors: dict[str, int]
    """Requests without an answer, by gRPC status or ``NOT_SENT``. RESOURCE_EXHAUSTED are also those that were held back because
    the server owes too many answers to requests whose time is over (``clients/draining.py``)."""
    last_s: float
    """Seconds from the start to the last answer or error."""
    busy_share: float
    """Share of the time in which the event loop ran, or waited for a processor."""
    cpu_s: float
    """Processor seconds of all threads of the process."""


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of a client process."""

    connection: Connection
    model: str
    spec: RecommenderSpec
    timeout_s: float
    zipf_exponent: float
    seed: tuple[int, int]
    """Random seed of the load, and number of the process."""
    filter_share: float = 0.0
    """Share of the requests that filter."""
    filter_values: int = 0
    """Number of values of all attributes, of which such a request filters by one."""


def run_worker(settings: WorkerSettings, pipe: Pipe) -> None:
    """Entry point of the process: send shares of loads until the other end of the pipe closes.

    The process sends ``None`` when it is ready, ``LoadProgress`` every half second, a ``WorkerResult`` at the end of each share.
    It receives shares, and ``None`` to end the current one early.
    """
    # select() waits for microseconds, epoll only for whole milliseconds, which would be added to every latency.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the process that started this one is gone
        loop.run_until_complete(_serve(settings, pipe))
    loop.close()


async def _serve(settings: WorkerSettings, pipe: Pipe) -> None:
    requests = _make_requests(settings)
    async with contextlib.AsyncExitStack() as stack:
        channel = open_aio_channel(settings.connection, settings.connection.credentials())
        stack.push_async_callback(channel.close, CLOSE_S)
        method, pairs = GRPCInferenceServiceStub(channel).ModelInfer, settings.connection.pairs
        send = functools.partial(DrainingTasks().ask, method, timeout_s=settings.timeout_s, metadata=pairs)
        for request in requests[:_WARM_UP_REQUESTS]:
            with contextlib.suppress(grpc.RpcError, CallFailed):  # the load will show it
                await send(request)
        pipe.send(None)
        while True:
            await _readable(pipe)
            if (share := pipe.recv()) is not None:
                pipe.send(await _ShareRun(share, requests, send, settings.timeout_s).carry_out(pipe))


def _make_requests(settings: WorkerSettings) -> list[Any]:
    random = np.random.default_rng(settings.seed)
    histories = draw_histories(settings.spec, _REQUESTS, settings.zipf_exponent, random)
    exclude = np.full((1, settings.spec.exclude_length), PADDING, np.int32)
    choices = {tensor.name: np.zeros((_REQUESTS, *tensor.shape), np.int32) for tensor in settings.spec.choices}
    if settings.filter_values:
        choices["filter"][:, 0] = draw_filters(settings.filter_values, _REQUESTS, settings.filter_share, random)
    rows = (slice(row, row + 1) for row in range(_REQUESTS))
    return [infer_request(settings.model, histories[row], exclude, chosen_rows(choices, row)) for row in rows]


async def _readable(pipe: Pipe) -> None:
    """Wait until something can be read, without reading it."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pipe.fileno(), arrived.set)
    try:
        await arrived.wait()
    finally:
        loop.remove_reader(pipe.fileno())


class _ShareRun:
    """A share that is being sent."""

    def __init__(self, share: LoadShare, requests: list[Any], send: Callable[..., Any], timeout_s: float) -> None:
        self.share, self.requests, self.send, self.timeout_s = share, requests, send, timeout_s
        self.end = share.start + share.duration_s
        self.late: list[float] = []
        self.latency: list[float] = []
        self.errors: Counter[str] = Counter()
        self.in_flight: set[asyncio.Task[None]] = set()
        self.last = share.start
        self.fault: BaseException | None = None

    async def carry_out(self, pipe: Pipe) -> WorkerResult:
        """Send the share, or until something comes through the pipe; then wait for the answers that are still missing."""
        await asyncio.sleep(self.share.start - time.monotonic())
        busy, cpu = busy_s(), time.process_time()
        progress = asyncio.create_task(self._report(pipe))
        stopped = await _unless(_readable(pipe), self._open_loop() if self.share.arrivals is not None else self._closed_loop())
        if stopped:
            pipe.recv()
            self.end = min(self.end, time.monotonic())
        if self.in_flight:
            await asyncio.wait(self.in_flight.copy())  # each has its own deadline
        progress.cancel()
        if self.fault:
            raise self.fault
        wall = max(time.monotonic() - self.share.start, 1e-9)
        return self._result((busy_s() - busy) / wall, time.process_time() - cpu)

    async def _open_loop(self) -> None:
        """Send each request when it is due, whatever the server does meanwhile."""
        assert self.share.arrivals is not None
        too_late = self.end + self.timeout_s
        for place, offset in enumerate(self.share.arrivals):
            intended = self.share.start + float(offset)
            # Sleep even when late, so that earlier requests leave and answers are received.
            await asyncio.sleep(max(0.0, intended - time.monotonic()))
            if time.monotonic() > too_late:
                return
            task = asyncio.create_task(self._ask(place, intended))
            self.in_flight.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self.in_flight.discard(task)
        self.fault = task.exception() or self.fault

    async def _closed_loop(self) -> None:
        """Keep ``concurrency`` requests in flight; each latency is measured from the sending."""

        async def one_after_another(first: int) -> None:
            place = first
            while time.monotonic() < self.end:
                await self._ask(place, None)
                place += self.share.concurrency

        self.in_flight = {asyncio.create_task(one_after_another(first)) for first in range(self.share.concurrency)}
        for task in self.in_flight:
            task.add_done_callback(self._finished)
        await asyncio.wait(self.in_flight.copy())

    async def _ask(self, place: int, intended: float | None) -> None:
        """Send a request now that was due at ``intended``; None in a closed loop, where any time is right."""
        now = time.monotonic()
        if intended is None:
            intended = now
        else:
            self.late.append(now - intended)
        try:
            await self.send(self.requests[place % len(self.requests)])
        except (grpc.aio.AioRpcError, CallFailed) as error:
            self.errors[error.code if isinstance(error, CallFailed) else error.code().name] += 1
            self.last = time.monotonic()
            # A closed loop against a dead server would do nothing but fail, thousands of times a second.
            if self.share.concurrency:
                await asyncio.sleep(min(0.01, max(0.0, self.end - self.last)))
            return
        self.last = time.monotonic()
        self.latency.append(self.last - intended)

    async def _report(self, pipe: Pipe) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_S)
            pipe.send(LoadProgress(len(self.latency), self.errors.total()))

    def _result(self, busy_share: float, cpu_s: float) -> WorkerResult:
        due = len(self.latency) + self.errors.total()
        if self.share.arrivals is not None:
            due = max(due, int(np.searchsorted(self.share.arrivals, self.end - self.share.start)))
            if unsent := due - len(self.late):
                self.errors[NOT_SENT] = unsent
        late, latency = (np.array(values, np.float64) for values in (self.late, self.latency))
        return WorkerResult(due, late, latency, dict(self.errors), self.last - self.share.start, busy_share, cpu_s)


async def _unless(stop: Coroutine[Any, Any, None], work: Coroutine[Any, Any, None]) -> bool:
    """Do ``work`` until it ends or ``stop`` does; returns whether it was stopped. Errors of ``work`` are raised."""
    stopping, working = asyncio.create_task(stop), asyncio.create_task(work)
    await asyncio.wait({stopping, working}, return_when=asyncio.FIRST_COMPLETED)
    stopped = not working.done()
    for task in (stopping, working):
        task.cancel()
    await asyncio.wait({stopping, working})
    if not stopped:
        working.result()
    return stopped


def busy_s() -> float:
    """Return the seconds in which this thread has run or waited for a processor since it began."""
    try:
        ran, waited, _ = Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()
    except (OSError, ValueError):  # a kernel without these figures: at least the time that it ran is known
        return time.thread_time()
    return (int(ran) + int(waited)) * _NANOSECONDS
