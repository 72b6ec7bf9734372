"""Giving memory back between the steps of a long process."""

import contextlib
import ctypes
import gc
import sys


def give_back_memory() -> None:
    """Give the memory of finished work back to the machine: that of reference cycles, of freed buffers (glibc), and of GPUs.

    Trainings keep freed buffers in the process on purpose (``distill.training.allocation``), and PyTorch keeps those on a GPU.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
