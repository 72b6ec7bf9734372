"""The model processes of a running server, as the process table shows them."""

import contextlib
from pathlib import Path

_STUB = "triton_python_backend_stub"


class ModelProcesses:
    """The model processes of a server's Python backend.

    Of several instances the living ones take nearly all requests, so a probe alone would find a dead one by chance.
    """

    def __init__(self) -> None:
        self._models: dict[int, str] = {}
        self._suspects: set[int] = set()
        self._forgotten: set[int] = set()

    def dead(self, server_pid: int) -> set[str]:
        """Models with a process that has ended without the server's doing, until they are forgotten.

        The server does not collect such a process, so it stays in the process table; one that was ended in order is there for
        a moment only. Therefore what is seen twice counts.
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
        found = {pid for pid in ended & self._suspects if pid in self._models}
        self._suspects = ended
        return {self._models[pid] for pid in found}

    def forget(self, model: str) -> set[int]:
        """Look no more at the processes that a model has had until now; it gets new ones. Returns their ids."""
        found = {pid for pid, name in self._models.items() if name == model}
        self._models = {pid: name for pid, name in self._models.items() if name != model}
        self._forgotten |= found
        return found


def living(server_pid: int) -> set[int]:
    """Child processes of a server that have not ended."""
    found = set()
    for pid in _children(server_pid):
        with contextlib.suppress(OSError):
            if _state(pid) != "Z":
                found.add(pid)
    return found


def _children(pid: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in path.read_text(encoding="utf-8").split()]
        except OSError:  # the thread has ended
            continue
    return found


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def _model_of(pid: int) -> str | None:
    """Model of a stub process, from its command line: stub, .../model/version/model.py, ..."""
    command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return Path(command[1]).parts[-3] if Path(command[0]).name == _STUB else None
