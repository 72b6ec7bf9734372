"""Description of the machine that measurements were made on."""

import platform
from pathlib import Path


def processor() -> str:
    """Name of the processor, from the kernel; ``platform`` often returns an empty string on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
