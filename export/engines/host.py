"""The NVIDIA GPU of this machine, as its driver describes it; needs neither PyTorch nor TensorRT."""

import shutil
import subprocess
from dataclasses import dataclass

_QUERY = ("name", "driver_version", "compute_cap", "memory.total")
_TIMEOUT_S = 30


@dataclass(frozen=True)
class Gpu:
    """A GPU and its driver."""

    name: str
    driver: str
    """Version of the driver, such as ``580.65.06``."""
    compute_capability: str
    """Such as ``8.9``."""
    memory_mib: int | None
    """Memory of the GPU; None where it shares that of the machine, as on Jetson."""


def find_gpu() -> Gpu | None:
    """The first GPU that ``nvidia-smi`` lists; None without the command, or where it fails."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    query = [command, f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):  # the driver is not loaded, or is another one than the command's
        return None
    return parse_gpu(answer.stdout)


def parse_gpu(listing: str) -> Gpu | None:
    """The first line of ``nvidia-smi``'s table; None where it is none."""
    values = [value.strip() for value in listing.partition("\n")[0].split(",")]
    if len(values) != len(_QUERY):
        return None
    name, driver, capability, memory = values
    return Gpu(name, driver, capability, int(memory) if memory.isdigit() else None)
