"""A tritonserver process: started on checked ports, waited for, stopped by its pid."""

import contextlib
import logging
import os
import secrets
import select
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import IO, Self

from distilrec.core.errors import ServerError
from distilrec.serving.process import wheel
from distilrec.serving.process.control import ModelControl
from distilrec.serving.process.environment import (
    ANYWHERE,
    LOOPBACK,
    Ports,
    check_ports,
    free_ports,
    protect_regions,
    region_prefix,
    regions_bytes,
    remove_leftovers,
    remove_regions,
)
from distilrec.serving.process.pid_file import end_orphan, write_pid_file
from distilrec.serving.process.processes import living, private_bytes
from distilrec.serving.process.repository import check_repository, plan_options
from distilrec.serving.process.security import ControlSecret, TlsConfig, hide_from_process_list
from export.repository.locks import hold_as_server

logger = logging.getLogger(__name__)

__all__ = ["LOOPBACK", "Ports", "TritonServer", "check_ports", "free_ports"]

_CRASHES = (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)
_STOP_TIMEOUT_S = 10
"""Seconds in which the server answers what is in flight when it stops.

Twice as long as our clients wait for an answer. Requests that tritonserver 2.51 lost (expired deadlines, cancelled calls) stay
in flight forever, so this is what bounds a stop."""
_KILL_MARGIN_S = 5
"""Seconds after that in which the server may end by itself."""
_RESTART_DRAIN_S = 5
_HTTP_LIMIT = "--http-max-input-size"
"""Option of newer releases; 2.51 has no limit."""
_HTTP_MAX_BYTES = 4 * 1024 * 1024
"""Largest HTTP request: several times the largest batch of long histories in JSON."""
_POLL_S = 0.05
_STDERR = 2
_LOG_LINES = 15
"""Lines of the server's log in the message of a failed start."""


class TritonServer:
    """A running tritonserver; a context manager that stops it.

    HTTP is closed, because one small request can end this server, and metrics listen on loopback. Under TLS, HTTP listens on
    loopback and answers nothing without the secret: our own probes use it, so they need no client certificate. Loading models,
    registering shared memory and changing tracing or logging take the secret.

    Args:
        repository: The model repository.
        ports: Ports to listen on.
        log: File for the server's output; None lets it go to stderr.
        secret: Secret of model control (``distilrec.serving.process.security``); None switches model control off.
        tls: Certificates of the gRPC endpoint; None speaks plain text.
        grpc_address: Address on which gRPC listens; 0.0.0.0 is everywhere.
        http: Whether HTTP answers everybody, on loopback.
        start_timeout_s: Seconds until the server must be ready, with all models loaded.
        pid_file: File that names the server's process while it runs. A server that it names already is ended first if the
            process that started it is gone.

    Raises:
        ServerError: a port is taken, the repository has no model, a TLS file cannot be used, or the server does not get ready.
    """

    def __init__(
        self,
        repository: Path,
        ports: Ports,
        log: Path | None = None,
        *,
        secret: ControlSecret | None = None,
        tls: TlsConfig | None = None,
        grpc_address: str = LOOPBACK,
        http: bool = False,
        start_timeout_s: float = 60.0,
        pid_file: Path | None = None,
    ) -> None:
        if tls is not None:
            tls.check()
        check_repository(repository)
        if pid_file is not None:
            end_orphan(pid_file, _RESTART_DRAIN_S)
        check_ports(ports, grpc_address, http=http or bool(tls))
        remove_leftovers()
        self.repository, self.ports, self.log, self.secret, self.tls = repository, ports, log, secret, tls
        self.url = f"{LOOPBACK if grpc_address == ANYWHERE else grpc_address}:{ports.grpc}"
        # Under mutual TLS gRPC takes a client certificate, which we do not have; the secret opens HTTP as well.
        self.control_url = f"http://{LOOPBACK}:{ports.http}" if tls else self.url
        # Without a secret of model control, with one that only this object knows.
        self.access = ModelControl(self.control_url, secret or ControlSecret())
        self._http, self._start_timeout_s, self._pid_file = http, start_timeout_s, pid_file
        self._region_prefix = f"{region_prefix()}{secrets.token_hex(4)}_"
        self._command, self._environment = wheel.server_command(self._options(grpc_address))
        self._lock, self._abandoned = threading.RLock(), set[int]()
        self._stopping = self._cut_short = False
        self._ended: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = log.open("wb") if log else None
        self._hold = hold_as_server(repository)
        self._process = self._spawn()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the server's process runs."""
        return self._process.poll() is None

    @property
    def status(self) -> int | None:
        """Exit status of the server's process, None while it runs; negative for the signal that ended it."""
        return self._process.poll()

    @property
    def stopping(self) -> bool:
        """Whether the server was told to stop, so that it is not started again."""
        return self._stopping

    def forbid_restart(self) -> None:
        """Let a restart under way give up, and begin no other: the server is about to be stopped."""
        self._stopping = True

    def ended_within(self, timeout_s: float) -> bool:
        """Wait until the server's process ends, at most so many seconds; returns whether it has ended. Does not poll."""
        try:
            process = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            return bool(select.select([process], [], [], timeout_s)[0])
        finally:
            os.close(process)

    def wait(self) -> int:
        """Wait until the server ends by itself; returns its exit status. A restart is not an end."""
        while True:
            process = self._process
            status = process.wait()
            with self._lock:  # a restart under way holds it
                if process is self._process:
                    return 0 if self._cut_short else status

    def restart(self) -> None:
        """End the server's process and start another with the same options; calls meanwhile fail.

        Raises:
            ServerError: it does not get ready; then there is no server any more until the next restart, and ``wait`` returns.
        """
        with self._lock:
            if self._stopping:
                return
            self._end(_RESTART_DRAIN_S)
            self._abandoned, self._cut_short = set(), False
            self._process = self._spawn()
            try:
                self._wait_until_ready()
            except ServerError:
                self._end(0)
                self._cut_short = self._stopping
                raise

    def stop(self) -> int:
        """End the server: requests in flight are answered first. Returns its exit status; 0 means cleanly."""
        self._stopping = True  # ends a restart that waits
        with self._lock:
            self._end(_STOP_TIMEOUT_S + _KILL_MARGIN_S)
            if self._output:
                self._output.close()
            if self._hold is not None:
                os.close(self._hold)
                self._hold = None
            if self._pid_file is not None:
                self._pid_file.unlink(missing_ok=True)
            return 0 if self._cut_short else self._process.returncode

    @property
    def crashed(self) -> bool:
        """Whether a crash has ended the server's process."""
        return self.status in _CRASHES

    def protect_memory(self) -> None:
        """Let only this account read the shared memory; again whenever a model may have been loaded."""
        protect_regions(self._region_prefix)

    def request_memory_bytes(self) -> int:
        """Memory in which the server keeps requests and answers: its own, and what it shares with the model processes.

        What these hold for themselves does not count, because a promotion may bring larger models.
        """
        return private_bytes(self.pid) + regions_bytes(self._region_prefix)

    def abandon(self, pids: set[int]) -> None:
        """Do not wait for these processes at the end: Triton waits for a request that died with one, all of its exit timeout."""
        self._abandoned |= pids

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _options(self, grpc_address: str) -> list[str]:
        options = {
            "--model-repository": str(self.repository),
            "--grpc-address": grpc_address,
            "--grpc-port": str(self.ports.grpc),
            "--metrics-address": LOOPBACK,
            "--metrics-port": str(self.ports.metrics),
            "--exit-timeout-secs": str(_STOP_TIMEOUT_S),
            "--metrics-config": "summary_latencies=true",  # p99 for dashboard and alarms
            "--log-info": "false",
            "--log-format": "ISO8601",
            "--backend-config": f"python,shm-region-prefix-name={self._region_prefix}",
            **self.access.secret.options(http=self._http),
        }
        if self._http or self.tls:
            options |= {"--http-address": LOOPBACK, "--http-port": str(self.ports.http)}
        else:
            options |= {"--allow-http": "false"}
        if self._http and wheel.has_option(_HTTP_LIMIT):
            options |= {_HTTP_LIMIT: str(_HTTP_MAX_BYTES)}
        if self.secret:
            options |= {"--model-control-mode": "explicit", "--load-model": "*"}
        if self.tls:
            options |= self.tls.options()
        given = [f"{name}={value}" for name, value in options.items()]
        return [*given, *plan_options(self.repository), "--disable-auto-complete-config"]

    def _start(self) -> None:
        """Wait until the first process is ready. A crash is tried once more, as tritonserver 2.51 sometimes dies of its own locks.

        Seen once in 50 starts beside a loaded server: SIGABRT, boost::interprocess::lock_exception.
        """
        try:
            self._wait_until_ready()
        except ServerError:
            if not self.crashed:
                raise
            logger.warning(
                "tritonserver crashed at its start (%s); starting it once more", signal.Signals(-self._process.returncode).name
            )
            self._end(0)
            self._process = self._spawn()
            self._wait_until_ready()

    def _spawn(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C in the terminal then reaches only this process, which ends the server in order.
        output = self._output or _STDERR
        process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
            umask=wheel.PRIVATE_UMASK,
            pass_fds=() if self._hold is None else (self._hold,),
        )
        if self._pid_file is not None:
            write_pid_file(self._pid_file, process.pid)
        return process

    def _end(self, timeout_s: float) -> None:
        """Let the server answer the requests it has, for at most ``timeout_s`` seconds, then kill it and its model processes."""
        if self._ended is self._process:
            return
        if self._process.poll() is None:
            self._drain(timeout_s)
        self._ended = self._process
        # Model processes that were starting when the server ended would stay forever; they are in its session.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        remove_regions(self._region_prefix)

    def _drain(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        self._process.send_signal(signal.SIGTERM)
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_POLL_S)
                return
            # A model process ends when its last request is answered.
            if self._abandoned and not living(self.pid) - self._abandoned:
                self._cut_short = True
                break
        self._process.kill()
        self._process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        hidden = False
        while time.monotonic() < deadline and not self._stopping:
            if self._process.poll() is not None:
                status = self._process.returncode
                raise ServerError(f"tritonserver ended with status {status} before it was ready.{self._end_of_log()}")
            if not hidden and living(self.pid):  # a server with model processes has read its options
                hidden = hide_from_process_list(self.pid, self.access.secret)
            self.protect_memory()
            if self.access.is_ready() and self._listens_to_http():
                if not hidden and not hide_from_process_list(self.pid, self.access.secret):
                    logger.warning("the control secret stays visible in the process list; mount /proc with hidepid=2")
                self.protect_memory()
                return
            time.sleep(_POLL_S)
        if self._stopping:
            raise ServerError("the start was given up, because the server is to be stopped")
        raise ServerError(f"tritonserver was not ready within {self._start_timeout_s:g} s.{self._end_of_log()}")

    def _listens_to_http(self) -> bool:
        """Whether the HTTP port is open, where it shall be: the server opens it after that of gRPC."""
        if not (self._http or self.tls):
            return True
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self.ports.http), timeout=1):
            return True
        return False

    def _end_of_log(self) -> str:
        if self.log is None:
            return " Its messages stand above."
        return f" The end of {self.log}:\n" + "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
