"""What a server's owner asks of it, with the server's secret: whether it is ready, its version, and model control."""

import contextlib
import json
import socket
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from clients.connection import Connection, Tls
from clients.steps import Call, CallFailed
from clients.transport import Transport
from distilrec.core.errors import ServerError
from distilrec.serving.process.loopback import call
from distilrec.serving.process.security import SECRET_VARIABLE, ControlSecret


class ModelState(NamedTuple):
    """One version of a model, as the server sees it."""

    name: str
    version: str
    state: str
    """READY, LOADING, UNLOADING, UNAVAILABLE, or empty for a model that was never loaded."""
    reason: str


class ControlTimeout(ServerError):
    """Model control that did not answer: it may be stuck forever, while the server answers requests as before."""


@dataclass(frozen=True)
class ModelControl:
    """Asks a server for its state, and loads, unloads and lists its models."""

    url: str
    """host:port of the gRPC endpoint; or http://host:port, which on the same machine also works under mutual TLS."""
    secret: ControlSecret
    """The secret that the server was started with."""
    tls: Tls | bool = False
    """How the gRPC endpoint is reached."""

    def load(self, name: str, timeout_s: float = 60.0, config: str | None = None) -> None:
        """Load a model, or take over its changed files: the old version serves until the new one is ready.

        Args:
            name: Name of the model.
            timeout_s: Seconds until the server counts as hung, which an incomplete version folder can do to it.
            config: The model's configuration as JSON, instead of the one in the repository.

        Raises:
            ServerError: refused, failed, or no server.
            ControlTimeout: not done in time.
        """
        what = f"load model {name!r}"
        if self._over_http:
            self._post(f"models/{quote(name, safe='')}/load", {"parameters": {"config": config}} if config else {}, what, timeout_s)
            return
        request = service_pb2.RepositoryModelLoadRequest(model_name=name)
        if config:
            request.parameters["config"].string_param = config
        self._call(Call("RepositoryModelLoad", request, timeout_s), what)

    def unload(self, name: str, timeout_s: float = 30.0) -> None:
        """Unload a model. Arguments and errors as ``load``."""
        what = f"unload model {name!r}"
        if self._over_http:
            self._post(f"models/{quote(name, safe='')}/unload", {}, what, timeout_s)
            return
        self._call(Call("RepositoryModelUnload", service_pb2.RepositoryModelUnloadRequest(model_name=name), timeout_s), what)

    def index(self, timeout_s: float = 5.0) -> list[ModelState]:
        """All models of the repository, loaded or not. Errors as ``load``."""
        what = "list the models"
        if self._over_http:
            entries = json.loads(self._post("index", {}, what, timeout_s))
            return [ModelState(*(entry.get(name, "") for name in ModelState._fields)) for entry in entries]
        reply = self._call(Call("RepositoryIndex", service_pb2.RepositoryIndexRequest(), timeout_s), what)
        return [ModelState(*(getattr(entry, name) for name in ModelState._fields)) for entry in reply.models]

    def is_ready(self, timeout_s: float = 1.0) -> bool:
        """Whether the server is ready, with all its models; False where none answers."""
        if self._over_http:
            with contextlib.suppress(OSError):
                reply = call(self.url, "GET", "/v2/health/ready", timeout_s=timeout_s, headers=self.secret.http_headers)
                return reply.status == HTTPStatus.OK
            return False
        host, _, port = self.url.rpartition(":")
        try:  # a refused connection says at once what a gRPC channel says after a while
            socket.create_connection((host.strip("[]"), int(port)), timeout_s).close()
            # Closing a Transport takes 0.2 s, for which each start and restart would wait.
            with self._channel() as channel:
                stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
                return bool(stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=timeout_s).ready)
        except (OSError, grpc.RpcError):
            return False

    def version(self, timeout_s: float = 2.0) -> str | None:
        """Version that the server reports; None without an answer."""
        try:
            if self._over_http:
                reply = call(self.url, "GET", "/v2", timeout_s=timeout_s, headers=self.secret.http_headers)
                return str(json.loads(reply.body)["version"]) if reply.status == HTTPStatus.OK else None
            metadata = self._call(Call("ServerMetadata", service_pb2.ServerMetadataRequest(), timeout_s), "ask for its version")
            return str(metadata.version)
        except (OSError, ServerError, ValueError, KeyError):
            return None

    @property
    def _over_http(self) -> bool:
        return self.url.startswith("http://")

    def _channel(self) -> grpc.Channel:
        connection = Connection(self.url, self.tls)
        credentials = connection.credentials()
        if credentials is None:
            return grpc.insecure_channel(self.url, connection.options)
        return grpc.secure_channel(self.url, credentials, connection.options)

    def _post(self, path: str, content: dict[str, Any], what: str, timeout_s: float) -> bytes:
        body = json.dumps(content).encode()
        try:
            reply = call(
                self.url, "POST", f"/v2/repository/{path}", timeout_s=timeout_s, body=body, headers=self.secret.http_headers
            )
        except TimeoutError as error:
            raise ControlTimeout(_late(self.url, what, timeout_s)) from error
        except OSError as error:
            raise ServerError(f"{self.url}: cannot {what}: no server answers ({error}). Start one with: distilrec serve") from error
        if reply.status != HTTPStatus.OK:
            raise ServerError(_refusal(self.url, what, reply.body.decode(errors="replace")))
        return reply.body

    def _call(self, request: Call, what: str) -> Any:
        transport = Transport(Connection(self.url, self.tls, self.secret.grpc_headers))
        try:
            return transport.carry_out(request)
        except CallFailed as failure:
            if failure.code == "DEADLINE_EXCEEDED":
                raise ControlTimeout(_late(self.url, what, request.timeout_s)) from failure
            raise ServerError(_refusal(self.url, what, failure.details)) from failure
        finally:
            transport.close()


def _late(url: str, what: str, timeout_s: float) -> str:
    return (
        f"{url}: did not {what} within {timeout_s:g} s. A version folder without its files hangs the server: look into the model"
        " repository, then restart the server"
    )


# Words of Triton's refusals: gRPC's status is UNAVAILABLE for both, as for a server that is not there. Only the hint hangs on them.
_NEEDS_SECRET = "is restricted"  # noqa: S105 - no secret
_NO_CONTROL_MODE = "not allowed"


def _refusal(url: str, what: str, message: str) -> str:
    hint = ""
    if _NEEDS_SECRET in message:
        hint = f" This needs the secret that the server runs with: --secret-file or {SECRET_VARIABLE}"
    elif _NO_CONTROL_MODE in message:
        hint = " Start the server without --no-control"
    return f"{url}: cannot {what}: {message.strip()}.{hint}"
