"""``distilrec serve``: a server with its secret and its watchdog, until a signal ends it."""

import logging
import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from distilrec.core.errors import UnwritableRepositoryError
from distilrec.core.specs import MODEL_NAME, SERVED_MODELS
from distilrec.serving.health.memory import DEFAULT_GROWTH_MB
from distilrec.serving.health.watchdog import Watchdog
from distilrec.serving.process.environment import LOOPBACK, Ports
from distilrec.serving.process.pid_file import pid_file
from distilrec.serving.process.rehearsal_folder import end_interrupted_rehearsal
from distilrec.serving.process.releases import http_risk, risk
from distilrec.serving.process.security import ControlSecret, TlsConfig, published, secret_path, server_secret, state_folder
from distilrec.serving.process.server import TritonServer
from export.repository.journal import load_journal, recover
from export.repository.locks import locked

logger = logging.getLogger(__name__)

INTERRUPTED = 130
"""Exit status of a program that Ctrl-C ended, as shells have it: 128 + SIGINT."""


@dataclass(frozen=True)
class ServeSettings:
    """How to serve."""

    repository: Path
    """The Triton model repository."""
    ports: Ports
    grpc_address: str = LOOPBACK
    """Address on which gRPC listens; metrics, and HTTP where it is open, stay on loopback."""
    http: bool = False
    """Whether HTTP answers everybody on loopback."""
    tls: TlsConfig | None = None
    """Certificates of the gRPC endpoint; None speaks plain text."""
    control: bool = True
    """Restricted model control, for promotion and the watchdog."""
    secret_file: Path | None = None
    """File of the control secret; None takes the default place."""
    watchdog: bool = True
    """Whether a watchdog probes the model, restores it, and starts a server again that has ended."""
    watchdog_port: int | None = None
    """Port of the watchdog's metrics on loopback; None is off."""
    memory_growth_mb: int = DEFAULT_GROWTH_MB
    """The watchdog restarts the server when it keeps this much more memory than after its start, in MB; 0 is never."""


def run_server(settings: ServeSettings, say: Callable[[str], None]) -> int:
    """Serve until SIGTERM, Ctrl-C or the server's own end.

    Args:
        settings: How to serve.
        say: Is called with each line for the user.

    Returns:
        0 stopped in order, 1 the server failed, 130 interrupted before it was ready.

    Raises:
        ServerError, RepositoryError: it cannot start.
    """
    for sent in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sent, _interrupt_once)
    secret, new = server_secret(settings.secret_file) if settings.control else (None, False)
    try:
        with ExitStack() as stack:
            _finish_promotion(settings.repository)
            server = stack.enter_context(_start(settings, secret))
            secret_file = None
            if secret is not None and new:
                secret_file = stack.enter_context(published(secret, settings.secret_file or secret_path(settings.ports.grpc)))
            watchdog = None
            if settings.watchdog:
                watchdog = stack.enter_context(
                    Watchdog(server, metrics_port=settings.watchdog_port, memory_growth_mb=settings.memory_growth_mb)
                )
            http = f", HTTP on {LOOPBACK}:{settings.ports.http}" if settings.http else ""
            say(f"ready: gRPC on {server.url}{http}; Ctrl-C ends it")
            if secret_file is not None:
                say(f"its control secret lies in {secret_file}")
            return _wait_and_stop(server, watchdog, say)
    except KeyboardInterrupt:
        return INTERRUPTED


def _start(settings: ServeSettings, secret: ControlSecret | None) -> TritonServer:
    """Start the server, and name the risks of its release and of open HTTP."""
    server = TritonServer(
        settings.repository,
        settings.ports,
        secret=secret,
        tls=settings.tls,
        grpc_address=settings.grpc_address,
        http=settings.http,
        pid_file=pid_file(state_folder(), settings.ports.grpc),
    )
    version = server.access.version() or "unknown"
    for warning in (risk(version), http_risk(version) if settings.http else None):
        if warning:
            logger.warning("%s", warning)
    return server


def _wait_and_stop(server: TritonServer, watchdog: Watchdog | None, say: Callable[[str], None]) -> int:
    """Wait for a signal, then stop in order; or for the server's end for good. Returns the status of the program."""
    try:
        if watchdog is not None:
            watchdog.wait()
        status = server.wait()
    except KeyboardInterrupt:
        # In this order: a watchdog that still ran while the server drains would bring it back.
        server.forbid_restart()
        if watchdog is not None:
            watchdog.stop()
        status = server.stop()
        say("stopped")
        if status:
            logger.warning("tritonserver ended with status %d: not all requests in flight were answered in time", status)
    else:
        logger.error("tritonserver has ended with status %d and is not started again", status)
    return 1 if status else 0


def _interrupt_once(*_: object) -> None:
    """Raise KeyboardInterrupt at the first signal; a second one must not interrupt the drain."""
    for sent in (signal.SIGINT, signal.SIGTERM):
        # A function that does nothing: with SIG_IGN, a signal that is pending already would raise.
        signal.signal(sent, lambda *_: None)
    raise KeyboardInterrupt


def _finish_promotion(repository: Path) -> None:
    """Finish or undo what an interrupted command left; a repository that cannot be written is served as it is."""
    if not (repository / MODEL_NAME).is_dir():
        return  # the server's own check says what is missing
    # Not by way of ``promotion``, whose checks load ONNX Runtime: a start should be quick, and some images lack it.
    with suppress(UnwritableRepositoryError), locked(repository):
        end_interrupted_rehearsal(repository)
        moving = load_journal(repository).moving_to is not None
        names = [name for name in SERVED_MODELS if moving or (repository / name / "config.pbtxt").exists()]
        if names:
            recover(repository, names)
