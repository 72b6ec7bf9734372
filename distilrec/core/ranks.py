"""Which of several processes this one is, on one or several machines, as ``torchrun`` says it in the environment.

All of them see the same folders. The first one writes stages; the others take part in trainings, and wait for all else.
"""

import os


def processes() -> int:
    """Number of processes; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def processes_here() -> int:
    """Number of processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if processes() > 1 else 1


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ["RANK"]) if processes() > 1 else 0


def is_first() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0
