"""``distilrec serve``: a server with its secret and its watchdog, until a signal ends it."""

import signal
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from distilrec.core.errors import UnwritableRepositoryError
from distilrec.core.specs import SERVED_MODELS
from distilrec.serving.health.watchdog import Watchdog
from distilrec.serving.process.environment import LOOPBACK, Ports
from distilrec.serving.process.security import TlsConfig, published, secret_path, server_secret
from distilrec.serving.process.server import TritonServer
from distilrec.serving.rollout.journal import locked, recover

INTERRUPTED = 130
"""Exit status of a program that Ctrl-C ended, as shells have it: 128 + SIGINT."""


@dataclass(frozen=True)
class ServeSettings:
    """How to serve."""

    repository: Path
    """The Triton model repository."""
    ports: Ports
    grpc_address: str = LOOPBACK
    """Address on which gRPC listens; HTTP and metrics stay on loopback."""
    tls: TlsConfig | None = None
    """Certificates of the gRPC endpoint; None speaks plain text."""
    control: bool = True
    """Restricted model control, for promotion and the watchdog."""
    secret_file: Path | None = None
    """File of the control secret; None takes the default place."""
    watchdog: bool = True
    """Whether a watchdog probes the model and restores it."""
    watchdog_port: int | None = None
    """Port of the watchdog's metrics on loopback; None is off."""


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
            server = TritonServer(
                settings.repository, settings.ports, secret=secret, tls=settings.tls, grpc_address=settings.grpc_address
            )
            stack.enter_context(server)
            secret_file = None
            if secret is not None and new:
                secret_file = stack.enter_context(published(secret, settings.secret_file or secret_path(settings.ports.grpc)))
            # Within: a watchdog that still ran while the server drains would bring it back.
            with Watchdog(server, metrics_port=settings.watchdog_port) if settings.watchdog else nullcontext():
                say(f"ready: gRPC on {server.url}, HTTP on {LOOPBACK}:{settings.ports.http}; Ctrl-C ends it")
                if secret_file is not None:
                    say(f"its control secret lies in {secret_file}")
                with suppress(KeyboardInterrupt):
                    return 1 if server.wait() else 0
            status = server.stop()
            say("stopped")
            return 1 if status else 0
    except KeyboardInterrupt:
        return INTERRUPTED


def _interrupt_once(*_: object) -> None:
    """Raise KeyboardInterrupt at the first signal; a second one must not interrupt the drain."""
    for sent in (signal.SIGINT, signal.SIGTERM):
        # A function that does nothing: with SIG_IGN, a signal that is pending already would raise.
        signal.signal(sent, lambda *_: None)
    raise KeyboardInterrupt


def _finish_promotion(repository: Path) -> None:
    """Finish or undo what an interrupted promotion left; a repository that cannot be written is served as it is."""
    names = [name for name in SERVED_MODELS if (repository / name / "config.pbtxt").exists()]
    if not names:
        return  # the server's own check says what is missing
    # Not by way of ``promotion``, whose checks load ONNX Runtime: a start should be quick, and some images lack it.
    with suppress(UnwritableRepositoryError), locked(repository):
        recover(repository, names)
