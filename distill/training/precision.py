"""Which precision a training on a CPU can use."""

from pathlib import Path

_CPU_FACTS = Path("/proc/cpuinfo")
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""Names of the instructions as Linux gives them, on x86 and on Arm."""


def cpu_computes_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware, which takes less than half the time of float32."""
    try:
        lines = _CPU_FACTS.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return False
    return any(_BFLOAT16 & set(line.split()) for line in lines if line.lower().startswith(("flags", "features")))
