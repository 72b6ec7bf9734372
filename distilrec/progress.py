"""One progress bar for every long step."""

import sys
from typing import Any

from tqdm import tqdm


def progress(iterable: Any = None, **options: Any) -> Any:
    """A tqdm bar on stderr; where no person watches, it prints a line every 10 seconds at most."""
    return tqdm(iterable, mininterval=0.1 if sys.stderr.isatty() else 10, dynamic_ncols=True, **options)
