"""The progress bar of all long steps."""

import sys
from typing import Any


def progress(iterable: Any = None, **options: Any) -> Any:
    """A tqdm bar on stderr, updated 10 times a second in a terminal and every 10 seconds elsewhere.

    Args:
        iterable: Iterable to wrap; None for a bar that is updated by hand.
        options: Further arguments of ``tqdm``.
    """
    from tqdm import tqdm  # here, because it is optional: serving and promotion work without it

    return tqdm(iterable, mininterval=0.1 if is_interactive() else 10.0, dynamic_ncols=True, **options)


def is_interactive() -> bool:
    """Whether stderr is a terminal."""
    return sys.stderr.isatty()
