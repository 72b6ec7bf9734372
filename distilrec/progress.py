"""One progress bar for every long step."""

import sys
from typing import Any

from tqdm import tqdm


def progress(iterable: Any = None, **options: Any) -> Any:
    """A tqdm bar on stderr."""
    return tqdm(iterable, mininterval=redraw_interval_s(), dynamic_ncols=True, **options)


def redraw_interval_s() -> float:
    """Seconds between redraws: smooth for a person, a line now and then where nobody watches."""
    return 0.1 if sys.stderr.isatty() else 10.0
