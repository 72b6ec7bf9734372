"""Memory of finished work goes back to the machine."""

from pathlib import Path

import numpy as np

from distill.training.allocation import keep_freed_memory
from distilrec.core.memory import give_back_memory


def resident_mb() -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))


def test_buffers_that_a_training_has_kept_are_given_back():
    keep_freed_memory()
    freed = [np.ones(250_000) for _ in range(150)]  # 2 MB each
    pinned = np.ones(1000)
    freed.append(freed)  # a cycle, as a trainer and its callbacks are
    del freed
    before = resident_mb()
    give_back_memory()
    assert resident_mb() < before - 200
    assert pinned.sum() == 1000
