"""Memory of a model, measured in a process that runs nothing else."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distilrec.core.runner import Runner

_REQUESTS = 20
"""Requests before the measurement, so that memory that the first requests allocate is included."""


def resident_bytes(load: Callable[[], Runner], history: NDArray[np.int32], exclude: NDArray[np.int32]) -> int:
    """Measure the resident bytes of a process that has loaded the model and answered some requests, with the interpreter.

    Args:
        load: Function that loads the model; it can be pickled.
        history: Histories of the requests, int32 [B, L].
        exclude: Items to leave out, int32 [B, E].

    Raises:
        RuntimeError: The process failed.
    """
    request = pickle.dumps((load, history, exclude))
    done = subprocess.run([sys.executable, "-m", "benchmarks.memory"], input=request, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"could not measure the memory of {load}: {done.stderr.decode(errors='replace')}")
    return int(done.stdout)


def _measure() -> int:
    load, history, exclude = pickle.loads(sys.stdin.buffer.read())
    runner = load()
    for _ in range(_REQUESTS):
        runner.recommend(history, exclude)
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    print(_measure())
