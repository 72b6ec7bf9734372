"""The model processes of a running server, as the process table shows them."""

import contextlib
from pathlib import Path
from typing import NamedTuple

_STUB = "triton_python_backend_stub"
_START_FIELD = 19


class ModelProcess(NamedTuple):
    """A living model process of a server."""

    pid: int
    start: int
    """Time of its start, in clock ticks since the boot; tells it from a later process with the same id."""
    model: str
    version: int


class ModelProcesses:
    """The model processes of a server's Python backend, one for each instance of a model.

    When one of several instances is dead, the living ones take nearly all requests, so a probe would find the dead one only by
    chance.
    """

    def __init__(self) -> None:
        self._models: dict[int, str] = {}
        self._suspects: set[int] = set()
        self._forgotten: set[int] = set()

    def dead(self, server_pid: int) -> set[str]:
        """Models with a process that has ended although the server did not end it, until they are forgotten.

        The server does not collect such a process, so it stays in the process table as a zombie. A process that the server ended
        is there only for a moment, so a zombie counts when it is seen a second time.
        """
        ended = set()
        for pid in set(_children(server_pid)) - self._forgotten:
            try:
                if _state(pid) == "Z":
                    ended.add(pid)
                elif model := _model_of(pid):
                    self._models[pid] = model
            except (OSError, IndexError):  # gone meanwhile
                continue
        dead = {pid for pid in ended & self._suspects if pid in self._models}
        self._suspects = ended
        return {self._models[pid] for pid in dead}

    def ignore(self, pid: int) -> None:
        """Ignore a process that is going to be ended, so that its end is not taken for a death."""
        self._models.pop(pid, None)
        self._forgotten.add(pid)

    def forget(self, model: str) -> set[int]:
        """Ignore the processes that a model has had until now, because it gets new ones. Returns their ids."""
        pids = {pid for pid, name in self._models.items() if name == model}
        self._models = {pid: name for pid, name in self._models.items() if name != model}
        self._forgotten |= pids
        return pids


def model_processes(server_pid: int) -> set[ModelProcess]:
    """Model processes of a server that have not ended."""
    processes = set()
    for pid in _children(server_pid):
        with contextlib.suppress(OSError, IndexError, ValueError):  # gone meanwhile, or no model of ours
            if folder := _folder_of(pid):
                processes.add(ModelProcess(pid, int(_stat(pid)[_START_FIELD]), folder.parent.name, int(folder.name)))
    return processes


def living(server_pid: int) -> set[int]:
    """Ids of a server's child processes that have not ended."""
    pids = set()
    for pid in _children(server_pid):
        with contextlib.suppress(OSError):
            if _state(pid) != "Z":
                pids.add(pid)
    return pids


def private_bytes(pid: int) -> int:
    """Memory of a process that it shares with no other and that no file backs, in bytes; 0 when the process has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def _children(pid: int) -> list[int]:
    children = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += [int(child) for child in path.read_text(encoding="utf-8").split()]
        except OSError:  # the thread has ended
            continue
    return children


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the process' state on."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()


def _state(pid: int) -> str:
    return _stat(pid)[0]


def _model_of(pid: int) -> str | None:
    """Model of a stub process."""
    folder = _folder_of(pid)
    return folder.parent.name if folder else None


def _folder_of(pid: int) -> Path | None:
    """Version folder of a stub process, from its command line: stub, .../model/version/model.py, ..."""
    command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return Path(command[1]).parent if Path(command[0]).name == _STUB else None
