"""What a request chooses beyond its history, as parts of the served graph: filters by attributes, and lists of allowed items."""

import numpy as np
import torch
from torch import Tensor, nn

from distill.models.item_table import is_item
from distilrec.core.specs import MASKED_SCORE, PADDING, table_rows
from distilrec.data.item_filters import ItemFilters

_ANY_SCORE = -MASKED_SCORE
"""Above every score, so that the smaller of both is the score."""


class FilterMask(nn.Module):
    """Masks the items that do not fit the values a request asks for.

    Items with the same values share a row of ``codes``: a request is compared with each different combination of values once, and
    a single look-up for each item brings the results to the catalogue.

    Args:
        filters: Attributes of the items.
    """

    codes: Tensor
    combination: Tensor

    def __init__(self, filters: ItemFilters) -> None:
        super().__init__()
        item_count = len(filters.codes) - 1
        combinations, of_item = np.unique(filters.codes, axis=0, return_inverse=True)  # [U, C], [N + 1]
        padded = np.zeros(table_rows(item_count), np.int64)
        padded[: item_count + 1] = of_item.reshape(-1)
        self.value_count = filters.values.count
        self.ranges = filters.values.ranges()
        self.widths = filters.widths
        codes = np.where(combinations == PADDING, self.value_count + 1, combinations).T  # G + 1: what nobody can ask for
        self.register_buffer("codes", torch.from_numpy(codes.astype(np.int64)).reshape(1, -1), persistent=False)
        self.register_buffer("combination", torch.from_numpy(padded)[None], persistent=False)

    def forward(self, scores: Tensor, wanted: Tensor) -> Tensor:
        """Scores with those of unfit items masked. float32 [B, rows] and int32 [B, F] -> float32 [B, rows]."""
        largest = torch.where(self._fitting(wanted), _ANY_SCORE, MASKED_SCORE)  # (B, U)
        return torch.minimum(scores, largest.gather(1, self.combination.expand(wanted.shape[0], -1)))

    def _fitting(self, wanted: Tensor) -> Tensor:
        """Whether each combination of values fits. int32 [B, F] -> bool [B, U]."""
        rows = wanted.shape[0]
        exists = (wanted >= 0) & (wanted <= self.value_count)
        none = torch.zeros(rows, self.value_count + 2)
        asked = none.scatter(1, torch.where(exists, wanted, PADDING).long(), 1.0)  # (B, G + 2)
        has = asked.gather(1, self.codes.expand(rows, -1)).reshape(rows, sum(self.widths), -1)  # (B, C, U)
        fits = exists.all(dim=1, keepdim=True)
        begin = 0
        for (first, end), width in zip(self.ranges, self.widths, strict=True):
            own = has[:, begin] if width == 1 else has[:, begin : begin + width].amax(dim=1)  # a maximum costs ONNX Runtime more
            fitting = own > 0
            unasked = asked[:, first:end].amax(dim=1, keepdim=True) == 0
            fits = fits & (fitting | unasked)
            begin += width
        return fits


def mask_all_but(scores: Tensor, allowed: Tensor, item_count: int) -> Tensor:
    """Mask the scores of all items that are not on a request's list, where it has one.

    Args:
        scores: float32 [B, rows].
        allowed: int32 [B, A], item indices; 0 is padding, and any other index outside 1..N an entry that no item fits.
        item_count: N.
    """
    listed = torch.where(is_item(allowed, item_count), allowed, PADDING).long()
    largest = torch.where((allowed != PADDING).any(dim=1, keepdim=True), MASKED_SCORE, _ANY_SCORE)  # (B, 1)
    return torch.minimum(scores, largest).scatter(1, listed, scores.gather(1, listed))
