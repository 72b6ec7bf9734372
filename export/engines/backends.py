"""The only importer of TensorRT: finds the installed package, and knows how the packages differ."""

import importlib
import importlib.util
import logging
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata
from typing import Any, Literal

from distilrec.core.errors import EngineError, MissingExtraError
from distilrec.core.progress import progress

BackendName = Literal["tensorrt", "tensorrt_rtx"]

_LABELS: dict[str, str] = {"tensorrt": "NVIDIA TensorRT", "tensorrt_rtx": "TensorRT for RTX"}
_EXTRAS: dict[str, str] = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
_SERIOUS = ("INTERNAL_ERROR", "ERROR", "WARNING")
"""Severities that error messages quote."""

_SHOWN_MESSAGES = 20
"""Most lines of TensorRT's log in an error message: the reason is among the last."""

_python_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Capabilities:
    """What a TensorRT package can do, as far as the packages differ."""

    builds_without_gpu: bool
    """Builds for the compute capabilities in the settings; otherwise for the GPU it runs on."""
    strongly_typed_flag: bool
    """Strong typing must be switched on by a flag; otherwise all networks are strongly typed."""
    hardware_compatible: bool
    """Can build for all GPUs from Ampere on. TensorRT for RTX ignores the setting without a message."""
    version_compatible: bool
    """Can build for later versions, too."""
    timing_cache: bool
    """Timings of kernels are worth keeping. In TensorRT for RTX they change nothing, and make it look for a GPU."""
    own_cuda_graphs: bool
    """Captures CUDA graphs by itself; kernels compiled at run time make a capture from outside unsafe."""


_TENSORRT_10 = Capabilities(
    builds_without_gpu=False,
    strongly_typed_flag=True,
    hardware_compatible=True,
    version_compatible=True,
    timing_cache=True,
    own_cuda_graphs=False,
)
_TABLE: dict[tuple[str, int], Capabilities] = {
    ("tensorrt", 10): _TENSORRT_10,
    ("tensorrt", 11): replace(_TENSORRT_10, strongly_typed_flag=False),
    ("tensorrt_rtx", 1): Capabilities(
        builds_without_gpu=True,
        strongly_typed_flag=False,
        hardware_compatible=False,
        version_compatible=False,
        timing_cache=False,
        own_cuda_graphs=True,
    ),
}
RTX_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""GPUs that TensorRT for RTX 1.7 names (``ComputeCapability``); Hopper (9.0) is none of them."""

_OLDEST_MINOR = {("tensorrt", 10): 12, ("tensorrt_rtx", 1): 4}
_EXPECTED = {"tensorrt": "10.12 or newer, but below 12", "tensorrt_rtx": "1.4 or newer, but below 2"}


@dataclass(frozen=True)
class Backend:
    """An imported TensorRT package."""

    name: BackendName
    version: str
    """Full version, as the package states it."""
    capabilities: Capabilities
    cuda_version: str | None
    """Major version of CUDA that the package is for, such as ``13``; None where it cannot be known."""
    module: Any = field(repr=False, compare=False)

    @property
    def label(self) -> str:
        """NVIDIA's name of the package."""
        return _LABELS[self.name]

    @property
    def network_flags(self) -> int:
        """Flags of a strongly typed network."""
        if not self.capabilities.strongly_typed_flag:
            return 0
        return 1 << int(self.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


@dataclass(frozen=True)
class Message:
    """A line of TensorRT's log."""

    severity: str
    text: str


def find_backend(name: Literal["auto", "tensorrt", "tensorrt_rtx"]) -> Backend:
    """Import TensorRT. ``auto``: NVIDIA TensorRT where it is installed, otherwise TensorRT for RTX.

    Raises:
        MissingExtraError: The package is not installed; the message holds the command that installs it.
        EngineError: The package is installed but cannot be loaded, or its version is not supported.
    """
    chosen = choose_backend(name, lambda module: importlib.util.find_spec(module) is not None)
    try:
        module = importlib.import_module(chosen)
    except Exception as error:  # broken installations fail in many ways: ImportError, OSError, RuntimeError
        raise EngineError(
            f"found {_LABELS[chosen]} installed, but it cannot be loaded ({error}), expected its libraries and CUDA's."
            f" Install it again with: pip install --force-reinstall 'distilrec[{_EXTRAS[chosen]}]'"
        ) from error
    version = str(module.__version__)
    return Backend(chosen, version, capabilities(chosen, version), _cuda_version(chosen), module)


def choose_backend(name: Literal["auto", "tensorrt", "tensorrt_rtx"], installed: Callable[[str], bool]) -> BackendName:
    """Choose the package to import.

    Args:
        name: The package, or ``auto``.
        installed: Returns True for the name of a module that can be imported.

    Raises:
        MissingExtraError: The package is not installed.
    """
    candidates: tuple[BackendName, ...] = ("tensorrt", "tensorrt_rtx") if name == "auto" else (name,)
    for candidate in candidates:
        if installed(candidate):
            return candidate
    raise MissingExtraError(_LABELS[candidates[0]], _EXTRAS[candidates[0]])


def capabilities(name: str, version: str) -> Capabilities:
    """What version ``version`` of package ``name`` can do.

    Raises:
        EngineError: The version is not supported.
    """
    numbers = re.match(r"(\d+)\.(\d+)", version)
    key = (name, int(numbers[1])) if numbers else (name, -1)
    if numbers is None or key not in _TABLE or int(numbers[2]) < _OLDEST_MINOR.get(key, 0):
        raise EngineError(
            f"found {_LABELS[name]} {version}, expected {_EXPECTED[name]}."
            f" Install it with: pip install --upgrade 'distilrec[{_EXTRAS[name]}]'"
        )
    return _TABLE[key]


def _cuda_version(name: str) -> str | None:
    """Major version in the name of the distribution that holds the package, such as ``tensorrt-rtx-cu13``, else PyTorch's CUDA."""
    distributions = metadata.packages_distributions().get(name, [])
    versions = [match[1] for match in map(re.compile(r"cu(\d+)").search, distributions) if match]
    import torch  # not at the top: promotion reads the manifests of plans without PyTorch

    return versions[0] if versions else torch.version.cuda


_collecting = threading.Lock()


@contextmanager
def collected_log(backend: Backend) -> Iterator[list[Message]]:
    """Collect TensorRT's messages of all severities while the block runs; one block at a time in a process."""
    log = logger(backend)
    with _collecting:
        log.collected = []
        try:
            yield log.collected
        finally:
            log.collected = None


def logger(backend: Backend) -> Any:
    """The only ``ILogger`` of the process: TensorRT keeps the first one it gets and ignores all others."""
    return _log(backend.module)


def errors_of(messages: list[Message]) -> str:
    """The last warnings and errors of a log, one on each line, for an error message."""
    serious = [message.text.strip() for message in messages if message.severity in _SERIOUS]
    return "\n".join(f"  {text}" for text in serious[-_SHOWN_MESSAGES:]) or "  (TensorRT logged no reason)"


@cache
def _log(module: Any) -> Any:
    class Log(module.ILogger):  # type: ignore[misc]
        """Collects messages within ``collected_log``; at other times it passes warnings and errors to ``logging``."""

        def __init__(self) -> None:
            super().__init__()
            self.collected: list[Message] | None = None

        def log(self, severity: Any, text: str) -> None:
            collected = self.collected  # TensorRT calls from several threads
            if collected is not None:
                collected.append(Message(str(severity.name), text))
            elif severity.name in _SERIOUS:
                _python_log.warning("TensorRT: %s", text)

    return Log()


@contextmanager
def build_progress(backend: Backend, title: str) -> Iterator[Any]:
    """Yield an ``IProgressMonitor`` with one bar for all steps of a build. Ctrl-C ends the build at its next step.

    An exception in a callback would end the process, so while the block runs the signal only sets an event.
    """
    interrupted = threading.Event()
    in_main_thread = threading.current_thread() is threading.main_thread()
    former = signal.signal(signal.SIGINT, lambda *_: interrupted.set()) if in_main_thread else None
    try:
        with progress(desc=title, unit="step", leave=False) as bar:
            yield _monitor(backend.module)(bar, interrupted)
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, former or signal.SIG_DFL)
        if interrupted.is_set():
            raise KeyboardInterrupt


@cache
def _monitor(module: Any) -> Any:
    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        """Counts the steps of all phases; their number becomes known as they start. Called from several threads."""

        def __init__(self, bar: Any, interrupted: threading.Event) -> None:
            super().__init__()
            self.bar = bar
            self.interrupted = interrupted
            self.lock = threading.Lock()
            bar.total = 0

        def phase_start(self, phase_name: str, _parent: str | None, num_steps: int) -> None:
            with self.lock:
                self.bar.total += num_steps
                self.bar.set_postfix_str(phase_name, refresh=False)

        def step_complete(self, _phase_name: str, _step: int) -> bool:
            with self.lock:
                self.bar.update()
            return not self.interrupted.is_set()

        def phase_finish(self, _phase_name: str) -> None:
            pass

    return Monitor
