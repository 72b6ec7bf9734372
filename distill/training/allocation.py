"""Keeping freed memory in the process, for training on a CPU."""

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 1 << 30


def keep_freed_memory() -> None:
    """Ask glibc not to hand buffers of up to 1 GB back to the system when they are freed; elsewhere nothing happens.

    Each step of a training frees and takes the same few buffers of logits. With glibc's defaults they are unmapped each time, and
    page faults then cost as much as the arithmetic.
    """
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
