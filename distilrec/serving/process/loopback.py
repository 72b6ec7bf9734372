"""Plain HTTP to a server of ours on loopback, which needs no certificate even if the gRPC endpoint demands one."""

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
    """Send one request to a server. Proxies of the environment are not used.

    Args:
        url: http://host:port.
        method: HTTP method.
        path: Path of the request.
        timeout_s: Seconds to wait for the answer.
        body: Body of the request.
        headers: Additional headers.

    Raises:
        TimeoutError: no answer within ``timeout_s``.
        OSError: no server listens, or the connection broke.
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
