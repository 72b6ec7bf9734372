"""One progress bar for every long step."""

import sys
from typing import Any


def progress(iterable: Any = None, **options: Any) -> Any:
    """A tqdm bar on stderr: smooth for a person, a line now and then where nobody watches."""
    from tqdm import tqdm  # here alone: who serves and promotes has none, and draws no bar

    return tqdm(iterable, mininterval=0.1 if is_interactive() else 10.0, dynamic_ncols=True, **options)


def is_interactive() -> bool:
    """Whether stderr is a terminal."""
    return sys.stderr.isatty()
