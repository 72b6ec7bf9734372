"""``distilrec serve``: a server with its secret and its watchdog, until it is told to end."""

import signal
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from distilrec.core.errors import RepositoryError
from distilrec.core.specs import SERVED_MODELS
from distilrec.serving.health.watchdog import Watchdog
from distilrec.serving.process.environment import LOOPBACK, Ports
from distilrec.serving.process.security import TlsConfig, published, secret_path, server_secret
from distilrec.serving.process.server import TritonServer
from distilrec.serving.rollout.journal import locked, recover

INTERRUPTED = 130


@dataclass(frozen=True)
class ServeSettings:
    """How to serve."""

    repository: Path
    ports: Ports
    grpc_address: str = LOOPBACK
    tls: TlsConfig | None = None
    control: bool = True
    """Restricted model control, for promotion and the watchdog."""
    secret_file: Path | None = None
    watchdog: bool = True
    watchdog_port: int | None = None


def run_server(settings: ServeSettings, say: Callable[[str], None]) -> int:
    """Serve until SIGTERM, Ctrl-C or the server's own end.

    Returns:
        0 stopped in order, 1 the server failed, 130 interrupted before it was ready.

    Raises:
        ServerError, RepositoryError: it cannot start.
    """

    def stop(*_: object) -> None:
        # Once: a second signal must not interrupt the drain. A function that does nothing, for with SIG_IGN a signal that is
        # pending already would raise.
        for sent in (signal.SIGINT, signal.SIGTERM):
            signal.signal(sent, lambda *_: None)
        raise KeyboardInterrupt

    for sent in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sent, stop)
    secret, new = server_secret(settings.secret_file) if settings.control else (None, False)
    try:
        with ExitStack() as stack:
            _finish_promotion(settings.repository)
            server = stack.enter_context(
                TritonServer(
                    settings.repository, settings.ports, secret=secret, tls=settings.tls, grpc_address=settings.grpc_address
                )
            )
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


def _finish_promotion(repository: Path) -> None:
    """What an interrupted promotion left is finished or undone first; a repository that cannot be written is served as it is."""
    names = [name for name in SERVED_MODELS if (repository / name / "config.pbtxt").exists()]
    if not names:
        return  # the server's own check says what is missing
    try:
        # Not by way of ``promotion``, which proves models and brings PyTorch along: a serving image has none.
        with locked(repository):
            recover(repository, names)
    except RepositoryError as error:
        if "cannot be written" not in str(error):
            raise
