"""Options for the connection to a server, and the connection that they describe."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clients.connection import Connection, Tls

TOKEN_VARIABLE = "DISTILREC_TOKEN"  # noqa: S105 - the variable's name, not a token

UseTls = Annotated[bool, typer.Option("--tls", help="Use TLS; naming any of its files means the same.")]
TlsCa = Annotated[Path | None, typer.Option(help="Certificate of the authority that signed the server's, PEM.")]
TlsCert = Annotated[Path | None, typer.Option(help="Our certificate, PEM, if the server asks for one (mutual TLS).")]
TlsKey = Annotated[Path | None, typer.Option(help="Its private key, PEM.")]
Metadata = Annotated[
    list[str] | None, typer.Option(help=f"KEY=VALUE to send along; a bearer token comes from the environment, {TOKEN_VARIABLE}.")
]


def tls_of(ca: Path | None, cert: Path | None, key: Path | None, *, wanted: bool = False) -> "Tls | bool":
    """Return the settings of TLS; naming any of its files means that it is wanted."""
    from clients.connection import Tls

    return Tls(ca, cert, key) if ca or cert or key else wanted


def given_connection(url: str, tls: "Tls | bool", metadata: Sequence[str] | None) -> "Connection":
    """As ``connection_of``, with the token of the environment; its warning goes to stderr."""
    # Not an option, because every user of the machine can read the process list.
    connection, warning = connection_of(url, tls, metadata or (), os.environ.get(TOKEN_VARIABLE))
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    return connection


def connection_of(url: str, tls: "Tls | bool", metadata: Sequence[str], token: str | None) -> "tuple[Connection, str | None]":
    """Return the connection that the options describe; a pure function.

    Args:
        url: Host and port.
        tls: Result of ``tls_of``.
        metadata: Texts of the form KEY=VALUE.
        token: Bearer token, sent unless the metadata contain an authorization.

    Returns:
        The connection; a warning, or None.

    Raises:
        ClientError: metadata that are not KEY=VALUE; also as ``Connection``.
    """
    from clients.connection import Connection
    from clients.errors import ClientError

    sent = {}
    for pair in metadata:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ClientError(f"--metadata: found {key!r}, expected KEY=VALUE")
        sent[key] = value
    if not token or "authorization" in sent:
        return Connection(url, tls, sent), None
    connection = Connection(url, tls, sent | {"authorization": f"Bearer {token}"})
    exposed = not (connection.tls or connection.on_this_machine)
    return connection, f"the token of {TOKEN_VARIABLE} goes to {url} unencrypted; use --tls" if exposed else None
