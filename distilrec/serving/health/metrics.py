"""The endpoint that Prometheus reads the watchdog's counts from."""

import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from distilrec.core.errors import ServerError
from distilrec.serving.process.environment import LOOPBACK


def serve_metrics(render: Callable[[], str], port: int) -> ThreadingHTTPServer:
    """Answer /metrics on loopback, in a thread of its own.

    Args:
        render: Function that returns the metrics.
        port: Port; 0 for a free one.

    Raises:
        ServerError: The port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            """Answer /metrics."""
            known = self.path == "/metrics"
            body = render().encode() if known else b"see /metrics\n"
            self.send_response(HTTPStatus.OK if known else HTTPStatus.NOT_FOUND)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Do not log every scrape."""

    try:
        server = ThreadingHTTPServer((LOOPBACK, port), Handler)
    except OSError as error:
        raise ServerError(
            f"port {port} (watchdog metrics) on {LOOPBACK} is taken ({error.strerror}); choose another with --watchdog-port"
        ) from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="watchdog-metrics", daemon=True).start()
    return server
