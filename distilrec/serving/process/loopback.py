"""Plain HTTP to a server of ours on loopback: it needs no certificate, whatever the gRPC endpoint demands."""

import http.client
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit


class Reply(NamedTuple):
    """Status and body of an answer."""

    status: int
    body: bytes


def call(
    url: str, method: str, path: str, *, timeout_s: float, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Reply:
    """Ask ``url`` (http://host:port) once. Proxies of the environment are not used.

    Raises:
        TimeoutError: no answer within ``timeout_s`` seconds.
        OSError: nobody listens, or the connection broke.
    """
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout_s)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return Reply(response.status, response.read())
    except http.client.HTTPException as error:
        raise ConnectionError(f"{url}: broken answer: {error!r}") from error
    finally:
        connection.close()
