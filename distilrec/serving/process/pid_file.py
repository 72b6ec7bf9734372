"""The file that names the tritonserver of a ``distilrec serve``, so that the next start finds what a killed one left behind.

A process is known by its id, the time of its start and the boot of the machine, never by its name. So a number that now belongs
to another process is left alone.
"""

import contextlib
import json
import logging
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

logger = logging.getLogger(__name__)

# Position in /proc/PID/stat, counted from the field after the command's name.
_START_TIME = 19
_POLL_S = 0.05
_KILL_S = 5.0
"""Seconds in which the kernel must have ended a killed process."""


@dataclass(frozen=True)
class Process:
    """A process, told from a later one with the same id."""

    pid: int
    start_ticks: int
    """Start in clock ticks after boot."""
    boot: str
    """Id of the machine's boot."""

    @classmethod
    def of(cls, pid: int) -> Self:
        """The process that has this id now. Raises OSError when there is none."""
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return cls(pid, int(fields[_START_TIME]), boot)

    @property
    def lives(self) -> bool:
        """Whether it still runs; one that has ended and was not collected by its parent does not."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            return state != "Z" and Process.of(self.pid) == self
        except (OSError, IndexError):
            return False


def pid_file(folder: Path, grpc_port: int) -> Path:
    """Place of the file of the server on this port."""
    return folder / f"server-{grpc_port}.json"


def write_pid_file(path: Path, server_pid: int) -> None:
    """Name a server of this process; where the file cannot be written, only the next start after a kill misses it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        content = {"server": asdict(Process.of(server_pid)), "owner": asdict(Process.of(os.getpid()))}
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(content, file)
        temporary.replace(path)
    except OSError as error:
        logger.info("%s cannot be written (%s): if serve is killed, the next one will not find its server", path, error)


def end_orphan(path: Path, drain_s: float) -> int | None:
    """End the server that the file names if the ``distilrec serve`` that started it is gone.

    Args:
        path: The file.
        drain_s: Seconds in which the server may answer what it has before it is killed.

    Returns:
        Its process id; None when there was nothing to end.
    """
    try:
        if path.stat().st_uid != os.getuid():
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        server, owner = Process(**content["server"]), Process(**content["owner"])
    except (OSError, ValueError, KeyError, TypeError):  # no file, or none of ours: the check of the ports says the rest
        return None
    if owner.lives or not server.lives:
        return None
    logger.warning("ending tritonserver %d: the distilrec serve that watched it (%d) was killed", server.pid, owner.pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + drain_s
    while server.lives and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    # Its model processes are in its group; while one of them lives, the group's number is given to nobody else.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    deadline = time.monotonic() + _KILL_S
    while server.lives and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    path.unlink(missing_ok=True)
    return server.pid
