"""The tritonserver inside the PyPI wheel ``nvidia-pytriton``, made to work as the plain command.

``python -m distilrec.serving.process.wheel ARGUMENTS`` becomes that server; ``write_launcher`` leaves a command of its name.
"""

import importlib.util
import os
import platform
import shutil
import stat
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from distilrec.core.errors import DistilRecError, MissingExtraError, ServerError
from distilrec.core.files import write_text

PRIVATE_UMASK = 0o077
"""What the server writes (core dumps, caches of Python) is for its own account only; requests pass through its memory.

Triton's shared memory does not follow the umask: see ``distilrec.serving.process.environment.protect_regions``."""

SERVER_VERSION = "2.51.0"
"""Version of the server in the wheel that ``pyproject.toml`` pins."""

ARCHITECTURES = ("x86_64", "aarch64")
"""Machines that the wheel is built for; the build for aarch64 was not run."""

NO_BUILD = "PyPI's nvidia-pytriton has no build of tritonserver for this machine"

_HELP_TIMEOUT_S = 30
_BINARY = "bin/tritonserver"
_LOOPBACK = "127.0.0.1"
_ADDRESS_OPTIONS = ("--grpc-address", "--http-address", "--metrics-address")
# The wheel's server looks for GPUs and pinned memory, and complains when there are none.
_QUIET_OPTIONS = {"--allow-gpu-metrics": "false", "--pinned-memory-pool-byte-size": "0"}


def find_tritonserver() -> list[str]:
    """The command that starts tritonserver: from PATH, else from the wheel.

    Raises:
        MissingExtraError: neither is there.
        ServerError: the wheel's server cannot run in this environment.
    """
    if on_path := shutil.which("tritonserver"):
        return [on_path]
    server_folder()
    check_environment()
    return [sys.executable, "-m", "distilrec.serving.process.wheel"]


def server_command(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of tritonserver with these arguments, without a Python in between.

    Raises:
        MissingExtraError, ServerError: as ``find_tritonserver``.
    """
    found = find_tritonserver()
    if found[0] != sys.executable:
        return [*found, *arguments], dict(os.environ)
    return command_and_environment(arguments)


def has_option(option: str) -> bool:
    """Whether the tritonserver of this machine knows an option, by its own help. Raises as ``find_tritonserver``."""
    command, environment = server_command(["--help"])
    # Its help ends with status 1, on stderr in some releases.
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=_HELP_TIMEOUT_S)
    return option in (shown.stdout + shown.stderr).split()


def server_folder() -> Path:
    """Folder of the wheel's server.

    Raises:
        MissingExtraError: the wheel is not installed.
        ServerError: there is no wheel for this machine.
    """
    # By path: importing pytriton would load its whole API.
    if platform.machine() not in ARCHITECTURES:
        raise ServerError(f"found a machine of architecture {platform.machine()}, expected {', '.join(ARCHITECTURES)}: {NO_BUILD}")
    package = importlib.util.find_spec("pytriton")
    if package is None or not package.submodule_search_locations:
        raise MissingExtraError("tritonserver (the wheel nvidia-pytriton)", "server")
    return Path(package.submodule_search_locations[0]) / "tritonserver"


def check_environment() -> None:
    """Refuse an environment in which the wheel's server would hang or answer nonsense.

    Raises:
        ServerError: numpy 2, no stub for this Python, or no shared libpython.
    """
    numpy = metadata.version("numpy")
    if int(numpy.split(".")[0]) >= 2:
        raise ServerError(
            f"found numpy {numpy}, expected numpy < 2: with numpy 2 this tritonserver returns empty tensors without an error."
            " Install it with: pip install 'numpy<2'"
        )
    if not _stub(server_folder()).exists():
        found = ".".join(map(str, sys.version_info[:2]))
        raise ServerError(f"found Python {found}, but the wheel's Python backend has no stub for it; use Python 3.11 or 3.12")
    if libpython_folder() is None:
        name = _libpython_name()
        package = name.split(".so")[0]
        raise ServerError(f"found no {name}, which Triton's Python backend needs. On Debian and Ubuntu: apt-get install {package}")


def libpython_folder() -> Path | None:
    """Folder of this Python's shared library; None when there is none."""
    candidates = [sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("LIBPL"), *_system_library_folders()]
    for folder in candidates:
        if folder and (Path(folder) / _libpython_name()).exists():
            return Path(folder)
    return None


def command_and_environment(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """The wheel's server as a command line and an environment; addresses default to loopback."""
    server = server_folder()
    given = {argument.split("=")[0] for argument in arguments}
    defaults = {"--backend-directory": str(_backend_folder(server)), **_QUIET_OPTIONS}
    defaults |= dict.fromkeys(_ADDRESS_OPTIONS, _LOOPBACK)
    options = [f"{option}={value}" for option, value in defaults.items() if option not in given]
    environment = dict(os.environ)
    # The Python backend takes the site-packages of the first python3 on PATH, whatever started the server.
    environment["PATH"] = os.pathsep.join([str(Path(sys.prefix) / "bin"), environment.get("PATH", os.defpath)])
    if libpython := libpython_folder():
        libraries = [str(libpython), environment.get("LD_LIBRARY_PATH", "")]
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
    return [str(server / _BINARY), *options, *arguments], environment


def write_launcher() -> Path:
    """Write a ``tritonserver`` command next to this Python, so that the plain command works in the activated environment.

    Raises:
        ServerError: the environment cannot run the server.
        MissingExtraError: the wheel is not installed.
    """
    check_environment()
    path = Path(sys.prefix) / "bin" / "tritonserver"
    write_text(path, f"#!{sys.executable}\nfrom distilrec.serving.process.wheel import main\n\nmain()\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return path


def main() -> NoReturn:
    """Become the wheel's tritonserver."""
    try:
        check_environment()
        command, environment = command_and_environment(sys.argv[1:])
        os.umask(PRIVATE_UMASK)
    except DistilRecError as error:
        sys.exit(f"tritonserver: {error}")
    os.execve(command[0], command, environment)  # noqa: S606 - this process becomes the server


def _backend_folder(server: Path) -> Path:
    """A backend directory of links into the wheel, so that the libraries resolve by their RPATH."""
    source = server / "backends" / "python"
    folder = Path(sys.prefix) / "share" / "distilrec" / "triton-backends"
    links = {path.name: path for path in source.iterdir() if path.suffix in (".so", ".py")}
    links["triton_python_backend_stub"] = _stub(server)
    target = folder / "python"
    target.mkdir(parents=True, exist_ok=True)
    for name, path in links.items():
        link = target / name
        if not link.is_symlink() or link.readlink() != path:
            temporary = link.with_name(f"{name}.{os.getpid()}.tmp")
            temporary.symlink_to(path)
            temporary.replace(link)
    return folder


def _stub(server: Path) -> Path:
    version = ".".join(map(str, sys.version_info[:2]))
    return server / "python_backend_stubs" / version / "triton_python_backend_stub"


def _libpython_name() -> str:
    return f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"


def _system_library_folders() -> list[str]:
    triplet = sysconfig.get_config_var("MULTIARCH") or ""
    return [f"/usr/lib/{triplet}", f"/lib/{triplet}", "/usr/lib64", "/usr/lib", "/usr/local/lib"]


if __name__ == "__main__":
    main()
