"""The one place where item indices become columns of a catalogue's logits, and back.

Item indices are 1..N everywhere: on disk, in batches and in losses; 0 is padding. Logits of a catalogue are [.., N].
"""

from torch import Tensor

_FIRST_ITEM = 1


def columns_of(items: Tensor) -> Tensor:
    """Columns 0..N-1 of items. Padding gets the first column; the caller masks what comes of it. int64, same shape."""
    return (items - _FIRST_ITEM).clamp(min=0)


def items_at(columns: Tensor) -> Tensor:
    """Items 1..N at these columns. int64, same shape."""
    return columns + _FIRST_ITEM
