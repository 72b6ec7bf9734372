"""A tritonserver process: started on checked ports, waited for, stopped by its pid."""

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from distilrec.errors import ServerError
from distilrec.serving import wheel
from distilrec.specs import MODEL_FILE, MODEL_NAME
from distilrec.versions import version_folder

LOOPBACK = "127.0.0.1"
_START_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 30
_POLL_S = 0.1
_STDERR = 2


@dataclass(frozen=True)
class Ports:
    """TCP ports on loopback."""

    grpc: int = 8001
    http: int = 8000
    metrics: int = 8002


def find_tritonserver() -> list[str]:
    """The command that starts tritonserver: from PATH, else out of the wheel.

    Raises:
        MissingExtraError: there is neither.
        ServerError: the wheel's server cannot run in this environment.
    """
    if on_path := shutil.which("tritonserver"):
        return [on_path]
    wheel.server_folder()
    wheel.check_environment()
    return [sys.executable, "-m", "distilrec.serving.wheel"]


def free_ports() -> Ports:
    """Three ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for entry in sockets:
            entry.bind((LOOPBACK, 0))
        return Ports(*(entry.getsockname()[1] for entry in sockets))


class TritonServer:
    """A running tritonserver; a context manager that stops it.

    Args:
        repository: the model repository.
        ports: where to listen, on loopback only.
        log: file for the server's output; None lets it go to stderr.

    Raises:
        ServerError: a port is taken, the repository has no model, or the server does not get ready.
    """

    def __init__(self, repository: Path, ports: Ports, log: Path | None = None) -> None:
        check_repository(repository)
        check_ports(ports)
        self.ports = ports
        self.log = log
        self.url = f"{LOOPBACK}:{ports.grpc}"
        options = {
            "--model-repository": str(repository),
            "--grpc-address": LOOPBACK,
            "--grpc-port": str(ports.grpc),
            "--http-address": LOOPBACK,
            "--http-port": str(ports.http),
            "--metrics-address": LOOPBACK,
            "--metrics-port": str(ports.metrics),
            "--exit-timeout-secs": str(_STOP_TIMEOUT_S),
            "--log-info": "false",
        }
        command = find_tritonserver() + [f"{name}={value}" for name, value in options.items()]
        command.append("--disable-auto-complete-config")
        self._output: IO[bytes] | None = log.open("wb") if log else None
        # A session of its own: Ctrl-C in the terminal reaches us alone, and we end the server in order.
        output = self._output or _STDERR
        self._process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def wait(self) -> int:
        """Wait until the server ends by itself; returns its exit status."""
        return self._process.wait()

    def stop(self) -> int:
        """End the server: requests in flight are answered first. Returns its exit status; 0 means cleanly."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_TIMEOUT_S + 5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._output:
            self._output.close()
        return self._process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        client = grpc.InferenceServerClient(self.url)
        try:
            while time.monotonic() < deadline:
                if self._process.poll() is not None:
                    status = self._process.returncode
                    raise ServerError(f"tritonserver ended with status {status} before it was ready.{self._last_words()}")
                with contextlib.suppress(InferenceServerException):
                    if client.is_server_ready(client_timeout=1) and client.is_model_ready(MODEL_NAME, client_timeout=1):
                        return
                time.sleep(_POLL_S)
        finally:
            client.close()
        raise ServerError(f"tritonserver was not ready within {_START_TIMEOUT_S} s.{self._last_words()}")

    def _last_words(self) -> str:
        if self.log is None:
            return " Its messages stand above."
        return f" The end of {self.log}:\n" + "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


def check_repository(repository: Path) -> None:
    """Refuse a repository whose model could not load: an incomplete version folder can hang the server.

    Raises:
        ServerError: config.pbtxt, or model.py or model.onnx of the version it pins, is missing.
        RepositoryError: config.pbtxt cannot be read or pins no version.
    """
    folder = repository / MODEL_NAME
    if not (folder / "config.pbtxt").is_file():
        raise ServerError(
            f"{repository}: found no {folder / 'config.pbtxt'}. Fill the repository first: distilrec run --preset ml-100k"
        )
    version = version_folder(repository)
    if missing := [str(version / name) for name in ("model.py", MODEL_FILE) if not (version / name).is_file()]:
        raise ServerError(f"{repository}: found no {', '.join(missing)}. Fill the repository first: distilrec run --preset ml-100k")


def check_ports(ports: Ports) -> None:
    """Raise ServerError when somebody listens on one of ``ports`` already."""
    for name, port in vars(ports).items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError as error:
                raise ServerError(
                    f"port {port} ({name}) on {LOOPBACK} is taken ({error.strerror});"
                    f" end what listens there, or choose another with --{name}-port"
                ) from error
