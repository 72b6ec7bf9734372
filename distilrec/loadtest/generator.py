"""Several client processes as one: they start together, report progress, and can be stopped together."""

import contextlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, Self

from distilrec.core.errors import LoadError
from distilrec.core.specs import RecommenderSpec
from distilrec.loadtest.settings import LoadSettings
from distilrec.loadtest.worker import LoadProgress, LoadShare, WorkerResult, WorkerSettings, run_worker

_READY_TIMEOUT_S = 60.0  # spawning imports gRPC and numpy, slow on a busy machine
_HEAD_START_S = 0.2  # from sending the shares to the common start
_GRACE_S = 30.0  # for processes that are late
_END_TIMEOUT_S = 2.0


class LoadGenerator:
    """Client processes that wait for their shares of a load; a context manager that ends them.

    Args:
        settings: Settings of the load.
        spec: Sizes of the served model.
        filter_values: Number of values of all attributes that requests can filter by.

    Raises:
        LoadError: a process did not become ready.
    """

    def __init__(self, settings: LoadSettings, spec: RecommenderSpec, filter_values: int = 0) -> None:
        # Spawned, not forked: gRPC's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._processes, self._pipes = [], list[Connection]()
        try:
            with _handling_interrupts(signal.SIG_IGN):  # inherited: Ctrl-C reaches this process alone, which ends the others
                for number in range(settings.processes):
                    ours, theirs = context.Pipe()
                    worker = worker_settings(settings, spec, number, filter_values)
                    process = context.Process(target=run_worker, args=(worker, theirs), daemon=True, name=f"load-{number}")
                    process.start()
                    theirs.close()
                    self._processes.append(process)
                    self._pipes.append(ours)
            self._wait_until_ready(time.monotonic() + _READY_TIMEOUT_S + 5 * settings.timeout_s)
        except BaseException:
            self.close()
            raise

    def run(
        self,
        shares: Callable[[float], list[LoadShare]],
        max_s: float,
        stop: threading.Event,
        report: Callable[[LoadProgress], None],
    ) -> list[WorkerResult]:
        """Give each process its share and wait for all results.

        Args:
            shares: Function that returns the share of each process for a common start, in seconds of ``time.monotonic()``.
            max_s: Seconds after which the last answer must have arrived or timed out.
            stop: Event that ends the load early when it is set; requests in flight are still waited for.
            report: Function that is called with the progress of all processes together.

        Raises:
            LoadError: a process ended, or sent nothing for long.
        """
        for pipe, share in zip(self._pipes, shares(time.monotonic() + _HEAD_START_S), strict=True):
            pipe.send(share)
        results: dict[Connection, WorkerResult] = {}
        progress: dict[Connection, LoadProgress] = {}
        deadline = time.monotonic() + _HEAD_START_S + max_s + _GRACE_S
        stopping = False
        while waiting := [pipe for pipe in self._pipes if pipe not in results]:
            if stop.is_set() and not stopping:
                stopping = True
                for pipe in waiting:
                    pipe.send(None)
            for pipe in self._arrived(waiting, deadline):
                message = self._receive(pipe)
                if isinstance(message, WorkerResult):
                    results[pipe] = message
                    message = LoadProgress(len(message.latency_s), sum(message.errors.values()))
                progress[pipe] = message
            report(LoadProgress(sum(part.answered for part in progress.values()), sum(part.failed for part in progress.values())))
        return [results[pipe] for pipe in self._pipes]

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(_END_TIMEOUT_S)
            if process.is_alive():
                process.kill()
                process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait_until_ready(self, deadline: float) -> None:
        waiting = set(self._pipes)
        while waiting:
            for pipe in self._arrived(list(waiting), deadline):
                self._receive(pipe)
                waiting.discard(pipe)

    def _arrived(self, pipes: list[Connection], deadline: float) -> list[Connection]:
        """Wait for pipes from which something can be read."""
        arrived = [pipe for pipe in wait(pipes, max(0.0, deadline - time.monotonic())) if isinstance(pipe, Connection)]
        if not arrived:
            raise LoadError("a client process no longer answers; is this machine overloaded? Try fewer --processes")
        return arrived

    def _receive(self, pipe: Connection) -> "LoadProgress | WorkerResult":
        try:
            message: LoadProgress | WorkerResult = pipe.recv()
        except (EOFError, ConnectionResetError):
            process = self._processes[self._pipes.index(pipe)]
            process.join(_END_TIMEOUT_S)
            raise LoadError(
                f"client process {process.name} ended with status {process.exitcode}, expected it to run on;"
                " its last output, if any, stands above (-9 means killed, perhaps for lack of memory)"
            ) from None
        return message


@contextlib.contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Let Ctrl-C set this event until the end of the block; a second Ctrl-C raises KeyboardInterrupt as usual."""
    interrupted = threading.Event()

    def note(*_: object) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    with _handling_interrupts(note):
        yield interrupted


@contextlib.contextmanager
def _handling_interrupts(handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Python sets signal handlers in the main thread only
        yield
        return
    former = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def worker_settings(settings: LoadSettings, spec: RecommenderSpec, number: int, filter_values: int = 0) -> WorkerSettings:
    """Return the settings of a client process; its number makes its histories its own."""
    seed = (settings.seed, number)
    return WorkerSettings(
        settings.connection,
        settings.model,
        spec,
        settings.timeout_s,
        settings.zipf_exponent,
        seed,
        settings.filter_share,
        filter_values,
    )
