"""Access to a server: TLS, and the secret that model control takes.

Loading a model runs code, because a model may bring its own model.py. So a server of ours restricts model control, shared
memory, tracing and logging to clients that know the secret, over gRPC and HTTP alike. Reading a model's configuration stays open:
the protocol "model-config" is only that reading, it holds nothing secret, and the client takes its sizes from it.

Over HTTP everything takes the secret, unless the user opens it. tritonserver 2.51 dies of small HTTP requests: it believes a shape
before it has the data, and reads nested brackets without a limit. It looks at the secret before it reads the body, so strangers
cannot send it such requests.

Triton takes the secret only on its command line; it has no file and no environment variable for options. From its start until
its first model process runs (we saw 0.03 s, longer on a busy machine), every account of the machine can therefore read the secret
in the process list. After that :func:`hide_from_process_list` has overwritten it there. If other people have accounts on the
machine, mount /proc with hidepid=2.
"""

import contextlib
import os
import re
import secrets
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from distilrec.core.errors import ServerError

SECRET_VARIABLE = "DISTILREC_CONTROL_SECRET"  # noqa: S105 - the variable's name
_HEADER = "distilrec-control"
_RESTRICTED = ("model-repository", "shared-memory", "trace", "logging")
_REST_OF_HTTP = ("health", "metadata", "inference", "model-config", "statistics")
# Characters that pass unchanged through Triton's option parser and an HTTP header, and a length that cannot be guessed.
_SECRET = re.compile(r"[A-Za-z0-9_.~+/=-]{16,}")
# Positions in /proc/PID/stat, counted from the field after the command's name.
_ARGUMENTS_BEGIN, _ARGUMENTS_END = 45, 46


@dataclass(frozen=True)
class TlsConfig:
    """TLS for the gRPC endpoint. With ``client_ca`` it is mutual: only clients with a certificate of that authority are served."""

    cert: Path
    """The server's certificate and the ones between it and its root, PEM."""
    key: Path
    """Its private key, PEM, without a passphrase."""
    client_ca: Path | None = None
    """Certificates of the authorities that may sign clients' certificates, PEM."""

    def check(self) -> None:
        """Raise ServerError unless all files are there, are PEM, and key and certificate belong together."""
        for what, path in (("certificate", self.cert), ("key", self.key), ("client authority", self.client_ca)):
            if path is not None and not path.is_file():
                raise ServerError(f"TLS {what} {path}: no such file, expected a PEM file")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # An empty passphrase: for a key that has one, OpenSSL would otherwise ask on the terminal.
            context.load_cert_chain(self.cert, self.key, password="")
        except (OSError, ValueError) as error:
            raise ServerError(
                f"TLS certificate {self.cert} and key {self.key} cannot be used ({error}); expected PEM files that belong"
                " together, the key without a passphrase"
            ) from error
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except (OSError, ValueError) as error:
                raise ServerError(f"TLS client authority {self.client_ca}: expected PEM certificates ({error})") from error

    def options(self) -> dict[str, str]:
        """Options of tritonserver."""
        options = {"--grpc-use-ssl": "true", "--grpc-server-cert": str(self.cert), "--grpc-server-key": str(self.key)}
        if self.client_ca is not None:
            options |= {"--grpc-use-ssl-mutual": "true", "--grpc-root-cert": str(self.client_ca)}
        return options


@dataclass(frozen=True)
class ControlSecret:
    """The secret that a client must send to load and unload models.

    Raises:
        ServerError: it is too short, or with characters that do not survive an HTTP header.
    """

    value: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    def __post_init__(self) -> None:
        if not _SECRET.fullmatch(self.value):
            raise ServerError(
                f"found a control secret of {len(self.value)} characters, expected at least 16 of A-Z a-z 0-9 _ . ~ + / = -."
                " Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )

    def options(self, *, http: bool) -> dict[str, str]:
        """Options of tritonserver that restrict all control of it to clients that know this secret.

        Args:
            http: Whether the rest of HTTP, inference above all, is open without the secret.
        """
        over_http = _RESTRICTED if http else (*_RESTRICTED, *_REST_OF_HTTP)
        return {
            "--grpc-restricted-protocol": f"{','.join(_RESTRICTED)}:{_HEADER}={self.value}",
            "--http-restricted-api": f"{','.join(over_http)}:{_HEADER}={self.value}",
        }

    @property
    def grpc_headers(self) -> dict[str, str]:
        """Headers that prove to the gRPC endpoint that the sender knows the secret."""
        return {f"triton-grpc-protocol-{_HEADER}": self.value}

    @property
    def http_headers(self) -> dict[str, str]:
        """Headers that prove it to the HTTP endpoint."""
        return {_HEADER: self.value}


def read_secret(path: Path) -> ControlSecret:
    """Read a secret from a file that only its owner can read.

    Raises:
        ServerError: no such file, others may read or write it, or it holds no usable secret.
    """
    try:
        with path.open(encoding="utf-8") as file:
            # The mode of the open file, not of the path, which could be exchanged in between.
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise ServerError(f"{path}: found mode {mode:04o}, expected 0600: others can read the secret. chmod 600 {path}")
            return ControlSecret(file.read().strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ServerError(
            f"{path}: cannot read the control secret ({error}). A running `distilrec serve` leaves it there;"
            f" or set {SECRET_VARIABLE}"
        ) from error


def state_folder() -> Path:
    """Folder of secrets and of what names running servers: in the user's runtime folder, else in the cache."""
    base = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "distilrec"


def secret_path(grpc_port: int) -> Path:
    """The default file for the secret of the server on this port."""
    return state_folder() / f"control-{grpc_port}"


def server_secret(secret_file: Path | None) -> tuple[ControlSecret, bool]:
    """A server's secret, and whether it is new and must be published.

    From ``DISTILREC_CONTROL_SECRET``, else from ``secret_file`` if that exists, else a new one.

    Raises:
        ServerError: as ``read_secret``.
    """
    if given := os.environ.get(SECRET_VARIABLE):
        return ControlSecret(given), False
    if secret_file is not None and secret_file.exists():
        return read_secret(secret_file), False
    return ControlSecret(), True


def client_secret(grpc_port: int, secret_file: Path | None = None) -> ControlSecret:
    """The secret of a running server: from ``DISTILREC_CONTROL_SECRET``, else from the file that the server left.

    Raises:
        ServerError: as ``read_secret``.
    """
    if given := os.environ.get(SECRET_VARIABLE):
        return ControlSecret(given)
    return read_secret(secret_file or secret_path(grpc_port))


@contextlib.contextmanager
def published(secret: ControlSecret, path: Path) -> Iterator[Path]:
    """Keep ``secret`` in a file of mode 0600 while the context lasts.

    Raises:
        ServerError: the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secret.value + "\n")
        temporary.replace(path)
    except OSError as error:
        raise ServerError(f"{path}: cannot write the control secret ({error}); choose another place with --secret-file") from error
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def hide_from_process_list(pid: int, secret: ControlSecret) -> bool:
    """Overwrite the secret in a child's command line, where every account could read it. The child has read it already.

    Returns:
        Whether the secret is gone; the kernel may forbid overwriting it.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        begin, end = int(fields[_ARGUMENTS_BEGIN]), int(fields[_ARGUMENTS_END])
        with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(begin)
            arguments = memory.read(end - begin)
            memory.seek(begin)
            memory.write(arguments.replace(secret.value.encode(), b"*" * len(secret.value)))
        return secret.value.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, IndexError, ValueError):
        return False
