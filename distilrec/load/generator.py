"""Several client processes as one: they start together, tell how it goes, and end when told to."""

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
from distilrec.load.settings import LoadSettings
from distilrec.load.worker import Client, Job, Outcome, Progress, serve_jobs

_READY_TIMEOUT_S = 60.0
_HEAD_START_S = 0.2
_GRACE_S = 30.0
_END_TIMEOUT_S = 2.0


class Generator:
    """Client processes that wait for jobs; a context manager that ends them.

    Args:
        settings: of the load.
        spec: sizes of the served model.

    Raises:
        LoadError: a process did not get ready.
    """

    def __init__(self, settings: LoadSettings, spec: RecommenderSpec) -> None:
        # Spawned, not forked: gRPC's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._processes, self._pipes = [], list[Connection]()
        try:
            with _handling_interrupts(signal.SIG_IGN):  # processes inherit it: Ctrl-C reaches us alone, and we end them in order
                for number in range(settings.processes):
                    ours, theirs = context.Pipe()
                    client = client_of(settings, spec, number)
                    process = context.Process(target=serve_jobs, args=(client, theirs), daemon=True, name=f"load-{number}")
                    process.start()
                    theirs.close()
                    self._processes.append(process)
                    self._pipes.append(ours)
            self._wait_until_ready(time.monotonic() + _READY_TIMEOUT_S + 5 * settings.timeout_s)
        except BaseException:
            self.close()
            raise

    def run(
        self, jobs: Callable[[float], list[Job]], most_s: float, stop: threading.Event, report: Callable[[Progress], None]
    ) -> list[Outcome]:
        """Give each process its job and wait for all outcomes.

        Args:
            jobs: the job of each process, by the time at which all start.
            most_s: seconds after which the last answer must have come or timed out.
            stop: ends the jobs early when it is set; what was in flight is still waited for.
            report: is told what happened so far.

        Raises:
            LoadError: a process ended, or said nothing for long.
        """
        for pipe, job in zip(self._pipes, jobs(time.monotonic() + _HEAD_START_S), strict=True):
            pipe.send(job)
        outcomes: dict[Connection, Outcome] = {}
        told: dict[Connection, Progress] = {}
        deadline = time.monotonic() + _HEAD_START_S + most_s + _GRACE_S
        stopping = False
        while waiting := [pipe for pipe in self._pipes if pipe not in outcomes]:
            if stop.is_set() and not stopping:
                stopping = True
                for pipe in waiting:
                    pipe.send(None)
            for pipe in self._arrived(waiting, deadline):
                message = self._receive(pipe)
                if isinstance(message, Outcome):
                    outcomes[pipe] = message
                    message = Progress(len(message.latency_s), sum(message.errors.values()))
                told[pipe] = message
            report(Progress(sum(one.answered for one in told.values()), sum(one.failed for one in told.values())))
        return [outcomes[pipe] for pipe in self._pipes]

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
        """Pipes from which something can be read; waits for it."""
        found = [pipe for pipe in wait(pipes, max(0.0, deadline - time.monotonic())) if isinstance(pipe, Connection)]
        if not found:
            raise LoadError("a client process says nothing any more; is this machine overloaded? Try fewer --processes")
        return found

    def _receive(self, pipe: Connection) -> "Progress | Outcome":
        try:
            message: Progress | Outcome = pipe.recv()
        except (EOFError, ConnectionResetError):
            process = self._processes[self._pipes.index(pipe)]
            process.join(_END_TIMEOUT_S)
            raise LoadError(
                f"client process {process.name} ended with status {process.exitcode}, expected it to run on;"
                " its last words, if any, stand above (-9 means killed, perhaps for lack of memory)"
            ) from None
        return message


@contextlib.contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Until the end of the block, Ctrl-C sets this event; a second one raises KeyboardInterrupt, as ever."""
    interrupted = threading.Event()

    def note(*_: object) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    with _handling_interrupts(note):
        yield interrupted


@contextlib.contextmanager
def _handling_interrupts(handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # where there are no signals
        yield
        return
    former = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def client_of(settings: LoadSettings, spec: RecommenderSpec, number: int) -> Client:
    """What the client process of this number is made with; each asks about histories of its own."""
    seed = (settings.seed, number)
    return Client(settings.connection, settings.model, spec, settings.timeout_s, settings.zipf_exponent, seed)
