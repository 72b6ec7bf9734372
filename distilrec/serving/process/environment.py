"""Checks before a server starts: free ports, and shared memory that dead servers of ours left behind."""

import contextlib
import logging
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from distilrec.core.errors import ServerError

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
ANYWHERE = "0.0.0.0"  # noqa: S104 - compared with, not bound to

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps it
_BLOCK_BYTES = 512
"""Unit of ``st_blocks``, whatever the file system is."""
_YOUNG_S = 60
"""Age in seconds up to which a region stays: a server that is starting has made it, but may not have mapped it yet."""


@dataclass(frozen=True)
class Ports:
    """TCP ports on loopback."""

    grpc: int = 8001
    http: int = 8000
    metrics: int = 8002


def free_ports() -> Ports:
    """Three ports that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for entry in sockets:
            entry.bind((LOOPBACK, 0))
        return Ports(*(entry.getsockname()[1] for entry in sockets))


def check_ports(ports: Ports, grpc_address: str = LOOPBACK, *, http: bool = True) -> None:
    """Raise ServerError when one of ``ports`` is taken.

    Args:
        ports: The ports.
        grpc_address: Address of gRPC's port; the others are on loopback.
        http: Whether the HTTP port is used.
    """
    for name, port in vars(ports).items():
        if name == "http" and not http:
            continue
        address = grpc_address if name == "grpc" else LOOPBACK
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                raise ServerError(
                    f"port {port} ({name}) on {address} is taken ({error.strerror});"
                    f" end what listens there, or choose another with --{name}-port"
                ) from error


def region_prefix() -> str:
    """Prefix of the names of our servers' shared memory, which tells it from that of other programs.

    It has the number of our process namespace: containers may share /dev/shm, but cannot see each other's processes.
    """
    return f"distilrec_{os.stat('/proc/self/ns/pid').st_ino}_"  # noqa: PTH116 - a link that Path would resolve


def protect_regions(prefix: str) -> None:
    """Let only this account read the shared memory of a server: the requests of its users lie there.

    Triton makes it with mode 0644 whatever the umask is, because Boost sets the mode after it has made the file.

    Args:
        prefix: Prefix of the server's regions.
    """
    for path in _SHARED_MEMORY.glob(f"{prefix}*"):
        with contextlib.suppress(FileNotFoundError):  # a process that is ending removes its own
            path.chmod(0o600)


def regions_bytes(prefix: str) -> int:
    """Memory that the shared memory of a server takes, in bytes.

    Args:
        prefix: Prefix of the server's regions.
    """
    total = 0
    for path in _SHARED_MEMORY.glob(f"{prefix}*"):
        with contextlib.suppress(FileNotFoundError):  # a process that is ending removes its own
            total += path.stat().st_blocks * _BLOCK_BYTES
    return total


def remove_regions(prefix: str) -> None:
    """Remove the shared memory of one server that has ended.

    Args:
        prefix: Prefix that no other server has.
    """
    for path in _SHARED_MEMORY.glob(f"{prefix}*"):
        path.unlink(missing_ok=True)


def remove_leftovers() -> list[str]:
    """Remove shared memory of dead tritonservers of ours, about 1 MB for each killed process, and log it in one line.

    A region is removed if it has our prefix, belongs to this account, is a minute old and is mapped by no living process.

    Returns:
        The names of the removed regions.
    """
    prefix = region_prefix()
    regions = {}
    for path in _SHARED_MEMORY.glob(f"{prefix}*"):
        with contextlib.suppress(FileNotFoundError):  # a server that is stopping right now removes its own
            regions[path.name] = path.stat()
    oldest = time.time() - _YOUNG_S
    dead = {name for name, status in regions.items() if status.st_uid == os.getuid() and status.st_mtime < oldest}
    if dead:
        dead -= _mapped(prefix)
    for name in dead:
        (_SHARED_MEMORY / name).unlink(missing_ok=True)
    if dead:
        size_bytes = sum(regions[name].st_size for name in dead)
        logger.info("removed %d shared memory region(s) of dead servers, %.1f MB", len(dead), size_bytes / 1e6)
    return sorted(dead)


def _mapped(prefix: str) -> set[str]:
    """Names of our regions that a living process has mapped."""
    mapped = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:  # the process has ended, or is another account's, which cannot use our regions
            continue
        mapped |= {Path(line.split(maxsplit=5)[5]).name for line in lines if f"{_SHARED_MEMORY}/{prefix}" in line}
    return mapped
