"""Model control of a running server, for those who know its secret."""

import contextlib
import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Literal, NamedTuple
from urllib.parse import quote

from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from distilrec.errors import ServerError
from distilrec.serving.loopback import call
from distilrec.serving.security import SECRET_VARIABLE, ControlSecret


class ModelState(NamedTuple):
    """One version of a model, as the server sees it."""

    name: str
    version: str
    state: str
    """READY, LOADING, UNLOADING, UNAVAILABLE, or empty for a model that was never loaded."""
    reason: str


def load_model(url: str, secret: ControlSecret, name: str, timeout_s: float = 60.0) -> None:
    """Load a model, or take over its changed files: the old version serves until the new one is ready.

    Args:
        url: host:port of the gRPC endpoint; or http://host:port, which on the same machine works under mutual TLS, too.
        secret: what the server was started with.
        name: the model.
        timeout_s: seconds until the server counts as hung, which an incomplete version folder can do to it.

    Raises:
        ServerError: refused, failed, no server, or not done in time.
    """
    _change(url, secret, name, "load", timeout_s)


def unload_model(url: str, secret: ControlSecret, name: str, timeout_s: float = 30.0) -> None:
    """Unload a model. Arguments and errors as ``load_model``."""
    _change(url, secret, name, "unload", timeout_s)


def repository_index(url: str, secret: ControlSecret, timeout_s: float = 5.0) -> list[ModelState]:
    """All models of the repository, loaded or not. Arguments and errors as ``load_model``."""
    what = "list the models"
    if url.startswith("http://"):
        entries = json.loads(_post(url, secret, "index", what, timeout_s))
    else:
        with _client(url, what, timeout_s) as client:
            reply = client.get_model_repository_index(headers=secret.grpc_headers, client_timeout=timeout_s, as_json=True)
        entries = reply.get("models", [])
    return [ModelState(*(entry.get(name, "") for name in ModelState._fields)) for entry in entries]


def _change(url: str, secret: ControlSecret, name: str, action: Literal["load", "unload"], timeout_s: float) -> None:
    what = f"{action} model {name!r}"
    if url.startswith("http://"):
        _post(url, secret, f"models/{quote(name, safe='')}/{action}", what, timeout_s)
        return
    with _client(url, what, timeout_s) as client:
        change = client.load_model if action == "load" else client.unload_model
        change(name, headers=secret.grpc_headers, client_timeout=timeout_s)


def _post(url: str, secret: ControlSecret, path: str, what: str, timeout_s: float) -> bytes:
    try:
        reply = call(url, "POST", f"/v2/repository/{path}", timeout_s=timeout_s, headers=secret.http_headers)
    except TimeoutError as error:
        raise ServerError(_late(url, what, timeout_s)) from error
    except OSError as error:
        raise ServerError(f"{url}: cannot {what}: no server answers ({error}). Start one with: distilrec serve") from error
    if reply.status != HTTPStatus.OK:
        raise ServerError(_refusal(url, what, reply.body.decode(errors="replace")))
    return reply.body


@contextlib.contextmanager
def _client(url: str, what: str, timeout_s: float) -> Iterator[grpc.InferenceServerClient]:
    client = grpc.InferenceServerClient(url)
    try:
        yield client
    except InferenceServerException as error:
        late = "DEADLINE_EXCEEDED" in str(error.status())
        raise ServerError(_late(url, what, timeout_s) if late else _refusal(url, what, str(error.message()))) from error
    finally:
        client.close()


def _late(url: str, what: str, timeout_s: float) -> str:
    return (
        f"{url}: did not {what} within {timeout_s:g} s. A version folder without its files hangs the server: look into the model"
        " repository, then restart the server"
    )


def _refusal(url: str, what: str, message: str) -> str:
    hint = ""
    if "is restricted" in message:
        hint = f" This needs the secret that the server runs with: --secret-file or {SECRET_VARIABLE}"
    elif "not allowed" in message:
        hint = " Start the server without --no-control"
    return f"{url}: cannot {what}: {message.strip()}.{hint}"
