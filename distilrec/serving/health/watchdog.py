"""Notices a model that does not answer as it should, and brings it back.

A dead model process is never replaced by Triton. The watchdog looks for dead processes and asks one golden request every half
second; it unloads and loads the model, and where that fails twice it restarts the server. Requests in between fail, so
clients should retry. Wrong answers are reported only: loading the same files again would not change them.
"""

import logging
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from distilrec.core.errors import ServerError
from distilrec.core.specs import MODEL_NAME
from distilrec.serving.health.probe import Fault, GoldenProbe, ProbeResult, over_grpc, over_http
from distilrec.serving.process.control import ModelControl
from distilrec.serving.process.environment import LOOPBACK
from distilrec.serving.process.processes import ModelProcesses
from distilrec.serving.process.server import TritonServer

logger = logging.getLogger(__name__)

PATIENCE = {Fault.NOT_HEALTHY: 1, Fault.UNAVAILABLE: 3, Fault.ERROR: 3, Fault.DEADLINE: 5}
"""How many probes in a row must fail before the model counts as dead. One deadline may be load; other faults are not healed."""

_HEAL_TRIES = 2
_CONFIRM_S = 5.0


class Watchdog:
    """A thread that watches a server; a context manager that ends it.

    A student that somebody unloads is loaded again. Without a control secret it can only restart. The end of the server's own
    process is left to ``TritonServer.wait``.

    Args:
        server: the running server.
        interval_s: seconds between probes.
        deadline_s: seconds a probe may take. The server itself needs one to notice a dead process.
        metrics_port: port on loopback for Prometheus; 0 takes a free one, None is off.

    Attributes:
        heals: how often a model was brought back by unload and load.
        restarts: how often the server was.
        faults: failed probes by reason.
        last_success_s: time of the last good probe, in seconds since 1970; 0 before it.

    Raises:
        DistilRecError: the served version has no golden requests.
        ServerError: ``metrics_port`` is taken.
    """

    def __init__(
        self, server: TritonServer, *, interval_s: float = 0.5, deadline_s: float = 2.0, metrics_port: int | None = None
    ) -> None:
        self.heals = 0
        self.restarts = 0
        self.faults: Counter[Fault] = Counter()
        self.last_success_s = 0.0
        self._server, self._interval_s = server, interval_s
        send = over_http(server.http_url, deadline_s) if server.tls else over_grpc(server.url, deadline_s)
        self._probe = GoldenProbe(server.repository, send)
        self._processes = ModelProcesses()
        self._failures: Counter[Fault] = Counter()
        self._gave_up = False
        self._last_logged: Fault | None = None
        self._stopping = threading.Event()
        self._metrics = None if metrics_port is None else _serve_metrics(self, metrics_port)
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    @property
    def metrics_port(self) -> int | None:
        """Where Prometheus may ask, None when off."""
        return self._metrics.server_port if self._metrics else None

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
            "# HELP distilrec_watchdog_faults_total Failed probes.",
            "# TYPE distilrec_watchdog_faults_total counter",
            *reasons,
            "# HELP distilrec_watchdog_last_success_timestamp_seconds When a golden request was last answered rightly.",
            "# TYPE distilrec_watchdog_last_success_timestamp_seconds gauge",
            f"distilrec_watchdog_last_success_timestamp_seconds {self.last_success_s:.3f}",
        ]
        return "\n".join(lines) + "\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            if not self._server.alive:
                return
            try:
                self._check()
            except ServerError as error:  # a restart that failed: the server has ended
                logger.error("watchdog: %s", error)  # noqa: TRY400 - it says what happened
                return
            except Exception:  # a watchdog that dies of a surprise watches nothing
                logger.exception("watchdog: a probe failed in an unforeseen way")

    def _check(self) -> None:
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
        self._failures[result.fault] += 1
        patience = PATIENCE.get(result.fault)
        if patience is not None and self._failures[result.fault] >= patience and not self._gave_up and not self._stopping.is_set():
            self._heal(MODEL_NAME)

    def _succeed(self) -> None:
        if self._last_logged is not None:
            logger.info("watchdog: model %r answers rightly again", MODEL_NAME)
        self._last_logged, self._gave_up, self.last_success_s = None, False, time.time()
        self._failures.clear()

    def _note(self, result: ProbeResult) -> None:
        """Count a fault; say it once, not twice a second."""
        assert result.fault is not None
        self.faults[result.fault] += 1
        if result.fault != self._last_logged:
            logger.warning("watchdog: %s: %s", result.fault, result.detail)
        self._last_logged = result.fault

    def _heal(self, model: str) -> None:
        """Unload and load, twice at most; then restart the server, once until something succeeds."""
        self._failures.clear()
        for _ in range(_HEAL_TRIES if self._server.secret else 0):
            if self._stopping.is_set() or not self._server.alive:
                return
            if self._reload(model):
                self.heals += 1
                logger.warning("watchdog: model %r was unloaded and loaded, and answers again", model)
                return
        self._gave_up = True
        logger.warning("watchdog: restarting the server")
        self._server.restart()
        self.restarts += 1
        self._processes = ModelProcesses()
        self._confirm(model)

    def _reload(self, model: str) -> bool:
        assert self._server.secret is not None
        self._server.abandon(self._processes.forget(model))
        try:
            control = ModelControl(self._server.control_url, self._server.secret)
            control.unload(model, timeout_s=10)
            control.load(model, timeout_s=30)
        except ServerError as error:
            self._note(ProbeResult(Fault.HEAL_FAILED, str(error)))
            return False
        return self._confirm(model)

    def _confirm(self, model: str) -> bool:
        """Whether a probe succeeds soon; for other models than the student the load itself tells."""
        if model != MODEL_NAME:
            return True
        deadline = time.monotonic() + _CONFIRM_S
        result = ProbeResult(None)
        while time.monotonic() < deadline and not self._stopping.is_set():
            result = self._probe()
            if result.fault in {None, Fault.WRONG_ANSWER, Fault.REFUSED}:  # it answers; the next round says how
                return True
            self._stopping.wait(0.1)
        self._note(ProbeResult(Fault.HEAL_FAILED, f"{result.fault}: {result.detail}"))
        return False


def _serve_metrics(watchdog: Watchdog, port: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            """Answer /metrics."""
            found = self.path == "/metrics"
            body = watchdog.metrics().encode() if found else b"see /metrics\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing about every scrape."""

    try:
        server = ThreadingHTTPServer((LOOPBACK, port), Handler)
    except OSError as error:
        raise ServerError(
            f"port {port} (watchdog metrics) on {LOOPBACK} is taken ({error.strerror}); choose another with --watchdog-port"
        ) from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="watchdog-metrics", daemon=True).start()
    return server
