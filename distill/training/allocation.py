"""Keeping freed memory in the process, for training on a CPU."""

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 1 << 30


def keep_freed_memory() -> None:
    """Let glibc keep freed buffers of up to 1 GB in the process; without glibc nothing happens.

    Each training step frees and allocates the same few buffers of logits. With glibc's defaults they are unmapped each time, and
    page faults then cost as much as the arithmetic.
    """
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
