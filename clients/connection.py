"""How a client connects: TLS, metadata, keepalive, message sizes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from clients.errors import ClientError

DEFAULT_URL = "127.0.0.1:8001"

# After a restart of the server the connection is back within half a second, not after gRPC's two minutes. Despite its name,
# ``min_reconnect_backoff_ms`` is the longest time that an attempt to connect may take.
_RECONNECT = {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 5000,
    "grpc.max_reconnect_backoff_ms": 500,
}
_URL = re.compile(r"(?:[^:/\s]+|\[[0-9a-fA-F:]+\]):\d{1,5}")
_KEY = re.compile(r"[0-9a-z_.-]+")
_LOOPBACK = re.compile(r"(?:127\.[0-9.]+|localhost|\[::1\]):\d+")


@dataclass(frozen=True)
class Tls:
    """Files of TLS; ``cert`` and ``key`` make it mutual."""

    ca: Path | str | None = None
    """Certificates of the authorities that may sign the server's certificate, PEM; None: those that gRPC trusts."""
    cert: Path | str | None = None
    """The client's certificate, PEM."""
    key: Path | str | None = None
    """Its private key, PEM, without a passphrase."""
    server_name: str | None = None
    """Name in the server's certificate, if it differs from the host of the address."""

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        Raises:
            ClientError: a file is missing, or certificate and key are not given together.
        """
        if (self.cert is None) != (self.key is None):
            raise ClientError("TLS: found a certificate without a key, or a key without a certificate; expected both or none")
        contents = []
        for what, path in (("authority", self.ca), ("key", self.key), ("certificate", self.cert)):
            try:
                contents.append(None if path is None else Path(path).read_bytes())
            except OSError as error:
                raise ClientError(f"TLS {what} {path}: cannot be read ({error.strerror}), expected a PEM file") from error
        return grpc.ssl_channel_credentials(*contents)


@dataclass(frozen=True)
class Connection:
    """Settings of a connection; checked when it is made.

    Raises:
        ClientError: an address that is not host:port, or metadata that gRPC cannot send.
    """

    url: str = DEFAULT_URL
    """Host and port of Triton's gRPC endpoint."""
    tls: Tls | bool = False
    """True trusts the authorities that gRPC trusts."""
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with each call, for example {"authorization": "Bearer ..."}; not shown, for it may be secret."""
    keepalive_s: float = 300.0
    """Seconds between pings while a call waits; Triton refuses clients that ping more often than that by default."""
    keepalive_timeout_s: float = 5.0
    """Seconds after which a silent connection counts as broken."""
    max_message_bytes: int = 64 * 1024 * 1024
    """Largest message in either direction."""

    def __post_init__(self) -> None:
        if not isinstance(self.url, str) or not _URL.fullmatch(self.url):
            raise ClientError(f"url: found {self.url!r}, expected host:port without a scheme, for example {DEFAULT_URL}")
        for key, value in self.metadata.items():
            if not _KEY.fullmatch(key) or not isinstance(value, str) or not value.isascii() or not value.isprintable():
                raise ClientError(f"metadata: found key {key!r}, expected lower-case keys and printable ASCII values")

    @property
    def on_this_machine(self) -> bool:
        """Whether the address is one of this machine."""
        return _LOOPBACK.fullmatch(self.url) is not None

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The metadata in gRPC's form."""
        return tuple(self.metadata.items())

    @property
    def options(self) -> list[tuple[str, Any]]:
        """Channel arguments."""
        values: dict[str, Any] = {
            **_RECONNECT,
            "grpc.keepalive_time_ms": int(self.keepalive_s * 1000),
            "grpc.keepalive_timeout_ms": int(self.keepalive_timeout_s * 1000),
            "grpc.max_send_message_length": self.max_message_bytes,
            "grpc.max_receive_message_length": self.max_message_bytes,
            # A connection of its own, which is gone when the client is closed.
            "grpc.use_local_subchannel_pool": 1,
        }
        if isinstance(self.tls, Tls) and self.tls.server_name:
            values["grpc.ssl_target_name_override"] = self.tls.server_name
        return list(values.items())

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Read the files of TLS; returns None without TLS. Raises as ``Tls.credentials``."""
        if not self.tls:
            return None
        return (Tls() if self.tls is True else self.tls).credentials()


def open_aio_channel(connection: Connection, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    """Open a channel of the running event loop.

    Args:
        connection: Settings of the connection.
        credentials: Result of ``connection.credentials()``.
    """
    if credentials is None:
        return grpc.aio.insecure_channel(connection.url, connection.options)
    return grpc.aio.secure_channel(connection.url, credentials, connection.options)
