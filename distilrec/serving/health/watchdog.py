"""Notices a model or a server that does not answer as it should, and brings it back.

Triton never replaces a dead model process. Every half second the watchdog looks for dead processes and sends one golden request.
When a model is dead, it unloads and loads the model; if that fails twice, it restarts the server. A server that has ended is
started again, with pauses if that repeats (``distilrec.serving.health.backoff``). A server that keeps the memory of huge requests
is restarted (``distilrec.serving.health.memory``). Requests in between fail, so clients should retry. Wrong answers are only
reported, because loading the same files again would not change them.

A version that does not finish unloading has its processes ended (``distilrec.serving.health.leftovers``).

Nothing else restarts a server.
"""

import contextlib
import logging
import os
import signal
import threading
import time
from collections import Counter
from typing import Self

from distilrec.core.errors import ServerError
from distilrec.core.specs import MODEL_NAME
from distilrec.serving.health.backoff import BackOff
from distilrec.serving.health.drift import drift_metrics
from distilrec.serving.health.leftovers import Leftovers, has_two_versions
from distilrec.serving.health.memory import DEFAULT_GROWTH_MB, PATIENCE_S, MemoryWatch
from distilrec.serving.health.metrics import serve_metrics
from distilrec.serving.health.probe import FailureCount, Fault, GoldenProbe, ProbeResult, over_grpc, over_http
from distilrec.serving.process.processes import ModelProcesses, model_processes
from distilrec.serving.process.server import TritonServer

logger = logging.getLogger(__name__)

_RELOAD_TRIES = 2
_UNLOAD_TIMEOUT_S = 10.0
_LOAD_TIMEOUT_S = 30.0
_LEFTOVERS_EVERY_S = 5.0
_INDEX_TIMEOUT_S = 2.0
_CONFIRM_S = 5.0
"""Seconds in which a probe must succeed after a reload or restart."""
_CONFIRM_PAUSE_S = 0.1
_MB = 1_000_000
_NOTICE_S = 0.1
"""Seconds within which the watchdog's own end is noticed."""


class Watchdog:
    """A thread that watches a server; a context manager that ends it.

    A student that was unloaded by hand is loaded again. Without a control secret the watchdog can only restart the server. Stopping
    the server's process from outside is no way to end it: only ``TritonServer.stop`` is.

    Args:
        server: The running server.
        interval_s: Seconds between probes.
        deadline_s: Seconds a probe may take. The server itself needs one second to notice a dead process.
        metrics_port: Port on loopback for Prometheus; 0 takes a free one, None is off.
        memory_growth_mb: The server is restarted when it keeps this much more memory than after its start, in MB; 0 is never.

    Attributes:
        heals: How often a model was brought back by unload and load.
        restarts: How often the server was restarted because a model could not be brought back.
        memory_restarts: How often the server was restarted because it kept too much memory.
        deaths: How often the server's process ended by itself.
        ended: Number of model processes that were ended because their version did not finish unloading.
        faults: Number of failed probes by reason.
        last_success_s: Time of the last good probe, in seconds since 1970; 0 before it.

    Raises:
        DistilRecError: the served version has no golden requests.
        ServerError: ``metrics_port`` is taken.
    """

    def __init__(
        self,
        server: TritonServer,
        *,
        interval_s: float = 0.5,
        deadline_s: float = 2.0,
        metrics_port: int | None = None,
        memory_growth_mb: int = DEFAULT_GROWTH_MB,
    ) -> None:
        self.heals = 0
        self.restarts = 0
        self.memory_restarts = 0
        self.deaths = 0
        self.ended = 0
        self.faults: Counter[Fault] = Counter()
        self.last_success_s = 0.0
        self._server, self._interval_s = server, interval_s
        if server.tls:
            send = over_http(server.control_url, deadline_s, server.access.secret.http_headers)
        else:
            send = over_grpc(server.url, deadline_s)
        self._probe = GoldenProbe(server.repository, send)
        self._processes = ModelProcesses()
        self._failures = FailureCount()
        self._leftovers = Leftovers()
        self._leftovers_due_s = 0.0
        self._backoff = BackOff()
        self._memory = MemoryWatch(memory_growth_mb * _MB)
        self._gave_up = False
        self._last_logged: Fault | None = None
        self._stopping = threading.Event()
        self._metrics = None if metrics_port is None else serve_metrics(self.metrics, metrics_port)
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    @property
    def metrics_port(self) -> int | None:
        """Port of the metrics for Prometheus, None when off."""
        return self._metrics.server_port if self._metrics else None

    def wait(self) -> None:
        """Wait until the server has ended for good: it was stopped, or several starts in a row did not get ready."""
        # In steps: a signal may reach another thread, and Python then raises in this one only when it runs.
        while self._thread.is_alive():
            self._thread.join(_NOTICE_S)

    def stop(self) -> None:
        """End the thread; a heal under way may go on in the background until the server is stopped."""
        self._stopping.set()
        self._thread.join(timeout=3)
        if self._metrics:
            self._metrics.shutdown()
            self._metrics.server_close()

    def metrics(self) -> str:
        """Counts in Prometheus' text format."""
        reasons = [f'distilrec_watchdog_faults_total{{reason="{fault}"}} {self.faults[fault]}' for fault in Fault]
        lines = [
            "# HELP distilrec_watchdog_heals_total Models brought back by unload and load.",
            "# TYPE distilrec_watchdog_heals_total counter",
            f"distilrec_watchdog_heals_total {self.heals}",
            "# HELP distilrec_watchdog_restarts_total Restarts of the server, where unload and load did not help.",
            "# TYPE distilrec_watchdog_restarts_total counter",
            f"distilrec_watchdog_restarts_total {self.restarts}",
            "# HELP distilrec_watchdog_memory_restarts_total Restarts of the server, where it kept too much memory.",
            "# TYPE distilrec_watchdog_memory_restarts_total counter",
            f"distilrec_watchdog_memory_restarts_total {self.memory_restarts}",
            "# HELP distilrec_watchdog_memory_growth_bytes Memory for requests that the server keeps, beyond that after its start.",
            "# TYPE distilrec_watchdog_memory_growth_bytes gauge",
            f"distilrec_watchdog_memory_growth_bytes {self._memory.grown_bytes}",
            "# HELP distilrec_watchdog_server_deaths_total Ends of the server's process that nobody asked for.",
            "# TYPE distilrec_watchdog_server_deaths_total counter",
            f"distilrec_watchdog_server_deaths_total {self.deaths}",
            "# HELP distilrec_watchdog_processes_ended_total Model processes ended because their version did not finish unloading.",
            "# TYPE distilrec_watchdog_processes_ended_total counter",
            f"distilrec_watchdog_processes_ended_total {self.ended}",
            "# HELP distilrec_watchdog_faults_total Failed probes.",
            "# TYPE distilrec_watchdog_faults_total counter",
            *reasons,
            "# HELP distilrec_watchdog_last_success_timestamp_seconds When a golden request was last answered rightly.",
            "# TYPE distilrec_watchdog_last_success_timestamp_seconds gauge",
            f"distilrec_watchdog_last_success_timestamp_seconds {self.last_success_s:.3f}",
            *drift_metrics(self._server.repository),
        ]
        return "\n".join(lines) + "\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._pause():
            if self._server.stopping:
                return
            try:
                if self._server.alive:
                    self._check()
                    self._check_memory()
                else:
                    self._revive()
            except ServerError as error:  # starts that failed: the server has ended
                logger.error("watchdog: %s", error)  # noqa: TRY400 - the message says what happened
                return
            except Exception:  # a watchdog that dies of a surprise watches nothing
                logger.exception("watchdog: a probe failed in an unforeseen way")

    def _pause(self) -> bool:
        """Wait until the next probe is due or the server has ended; returns whether the watchdog is to stop."""
        due = time.monotonic() + self._interval_s
        while not self._stopping.is_set() and (left_s := due - time.monotonic()) > 0:
            if self._server.ended_within(min(left_s, _NOTICE_S)):
                break
        return self._stopping.is_set()

    def _revive(self) -> None:
        """Start a server again that has ended."""
        self.deaths += 1
        pause_s = self._backoff.after_end(time.monotonic())
        when = f"in {pause_s:g} s" if pause_s else "now"
        logger.error("watchdog: tritonserver ended (%s); starting it again %s", _describe(self._server.status), when)
        self._start_again(pause_s)

    def _start_again(self, pause_s: float) -> None:
        """Restart the server after a pause; a start that does not get ready is tried again later.

        Raises:
            ServerError: several starts in a row did not get ready.
        """
        began = time.monotonic()
        while not self._stopping.wait(pause_s):
            try:
                self._server.restart()
            except ServerError as error:
                next_s = self._backoff.after_failed_start(crashed=self._server.crashed)
                if next_s is None or self._server.stopping:
                    raise
                pause_s = next_s
                logger.error("watchdog: %s; trying again in %g s", error, pause_s)  # noqa: TRY400 - the message says it
                continue
            if self._server.stopping:  # it was not started
                return
            self._backoff.ready()
            self._processes = ModelProcesses()
            self._failures.clear()
            self._memory.begin_again()
            logger.warning("watchdog: tritonserver is ready again after %.1f s", time.monotonic() - began)
            return

    def _check(self) -> None:
        self._server.protect_memory()
        self._end_leftovers()
        if dead := self._processes.dead(self._server.pid):
            for model in sorted(dead):
                self._note(ProbeResult(Fault.PROCESS_DEAD, f"a process of model {model!r} has ended"))
                self._heal(model)
            return
        result = self._probe()
        if result.fault is None:
            self._succeed()
            return
        self._note(result)
        if self._failures.add(result.fault) and not self._gave_up and not self._stopping.is_set():
            self._heal(MODEL_NAME)

    def _check_memory(self) -> None:
        """Restart a server that keeps the memory of huge requests."""
        if not self._memory.is_too_high(self._server.request_memory_bytes(), time.monotonic()):
            return
        logger.warning(
            "watchdog: for %g s tritonserver has kept %d MB more memory than after its start; restarting it, which gives them back",
            PATIENCE_S,
            self._memory.grown_bytes // _MB,
        )
        self.memory_restarts += 1
        self._start_again(0)

    def _end_leftovers(self) -> None:
        """End model processes whose version has been unloading for too long: the requests it waits for are lost."""
        now_s = time.monotonic()
        if now_s < self._leftovers_due_s:
            return
        self._leftovers_due_s = now_s + _LEFTOVERS_EVERY_S
        running = model_processes(self._server.pid)
        if not has_two_versions(running):
            return
        try:
            states = self._server.access.index(_INDEX_TIMEOUT_S)
        except ServerError:  # the probe says what is wrong
            return
        unloading = {(state.name, int(state.version)) for state in states if state.state == "UNLOADING"}
        for process in self._leftovers.overdue(running, unloading, now_s):
            self._processes.ignore(process.pid)
            self._server.abandon({process.pid})
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            self.ended += 1
            logger.warning(
                "watchdog: model %r version %d does not finish unloading, most likely because the server lost requests that clients"
                " gave up; ended its process %d", process.model, process.version, process.pid,
            )  # fmt: skip

    def _succeed(self) -> None:
        if self._last_logged is not None:
            logger.info("watchdog: model %r answers rightly again", MODEL_NAME)
        self._last_logged, self._gave_up, self.last_success_s = None, False, time.time()
        self._failures.clear()

    def _note(self, result: ProbeResult) -> None:
        """Count a fault; log it once, not twice a second."""
        assert result.fault is not None
        self.faults[result.fault] += 1
        if result.fault != self._last_logged:
            logger.warning("watchdog: %s: %s", result.fault, result.detail)
        self._last_logged = result.fault

    def _heal(self, model: str) -> None:
        """Unload and load the model, twice at most; then restart the server, but not again before a probe has succeeded."""
        self._failures.clear()
        for _ in range(_RELOAD_TRIES if self._server.secret else 0):
            if self._stopping.is_set() or not self._server.alive:
                return
            if self._reload(model):
                self.heals += 1
                logger.warning("watchdog: model %r was unloaded and loaded, and answers again", model)
                return
        self._gave_up = True
        logger.warning("watchdog: restarting the server")
        self._start_again(0)
        self.restarts += 1
        self._confirm(model)

    def _reload(self, model: str) -> bool:
        self._server.abandon(self._processes.forget(model))
        try:
            self._server.access.unload(model, _UNLOAD_TIMEOUT_S)
            self._server.access.load(model, _LOAD_TIMEOUT_S)
        except ServerError as error:
            self._note(ProbeResult(Fault.HEAL_FAILED, str(error)))
            return False
        return self._confirm(model)

    def _confirm(self, model: str) -> bool:
        """Whether a probe succeeds soon; for models other than the student, the success of the load is enough."""
        if model != MODEL_NAME:
            return True
        deadline = time.monotonic() + _CONFIRM_S
        result = ProbeResult(None)
        while time.monotonic() < deadline and not self._stopping.is_set():
            result = self._probe()
            if result.fault in {None, Fault.WRONG_ANSWER, Fault.REFUSED}:  # it answers; the next round judges the answer
                return True
            self._stopping.wait(_CONFIRM_PAUSE_S)
        self._note(ProbeResult(Fault.HEAL_FAILED, f"{result.fault}: {result.detail}"))
        return False


def _describe(status: int | None) -> str:
    """An exit status for people: the signal's name, or the number."""
    if status is not None and status < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-status).name
    return f"status {status}"
