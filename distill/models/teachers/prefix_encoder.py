"""Encoders that need one pass for each prefix; causal encoders read all prefixes of a window in one pass."""

from abc import abstractmethod

import torch
from torch import Tensor

from distill.models.encoders import Encoder
from distill.models.item_table import ItemTable, is_item
from distilrec.core.specs import PADDING


class PrefixEncoder(Encoder):
    """An encoder with one pass for each prefix.

    Args:
        items: the item table.
        at_once: Prefixes in a pass. It bounds memory at inference; in training, gradients keep all passes of a step in memory.
    """

    def __init__(self, items: ItemTable, at_once: int) -> None:
        super().__init__(items)
        self.at_once = at_once

    @abstractmethod
    def encode_some(self, history: Tensor) -> Tensor:
        """``encode_last`` for training and soft targets: any length T, without work that these histories do not need."""

    def encode_all(self, history: Tensor) -> Tensor:
        """int64 [B, T], right-padded -> float32 [B, T, d]; zeros after the end. B * T passes: ``encode_prefixes`` needs fewer."""
        valid = is_item(history, self.item_count)
        vectors = self.cold_start.new_zeros(*history.shape, self.items.embedding_size)
        return vectors.masked_scatter(valid[:, :, None], self.encode_prefixes(history, valid).to(vectors.dtype))

    def encode_prefixes(self, history: Tensor, valid: Tensor) -> Tensor:
        """See ``Encoder``."""
        prefixes, lengths = prefixes_at(history, valid)
        if not len(prefixes):
            return self.cold_start.new_zeros(0, self.items.embedding_size)
        # Prefixes of similar length together, so that little is spent on padding.
        order = lengths.argsort(stable=True)
        parts = [self.encode_some(prefixes[rows, -int(lengths[rows[-1]]) :]) for rows in torch.split(order, self.at_once)]
        return torch.cat(parts)[order.argsort()]


def prefixes_at(history: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The prefixes that end at M positions, and their lengths.

    Args:
        history: int64 [B, T], right-padded.
        valid: bool [B, T], M of them True.

    Returns:
        int64 [M, T], left-padded, in the order of ``valid``; int64 [M].
    """
    rows, ends = valid.nonzero(as_tuple=True)
    places = ends[:, None] - torch.arange(history.shape[1] - 1, -1, -1, device=history.device)  # (M, T)
    prefixes = torch.where(places >= 0, history[rows[:, None], places.clamp(min=0)], PADDING)
    return prefixes, ends + 1


def draw_positions(candidates: Tensor, count: int) -> Tensor:
    """At most ``count`` candidates of each row, drawn uniformly with PyTorch's global generator. bool [B, T] -> bool [B, T]."""
    # Drawn on the CPU, so that all devices draw the same.
    keys = torch.rand(candidates.shape).to(candidates.device).masked_fill(~candidates, -1.0)
    places = keys.topk(min(count, candidates.shape[1]), dim=1).indices
    return torch.zeros_like(candidates).scatter(1, places, value=True) & candidates


def newest_positions(valid: Tensor, count: int) -> Tensor:
    """The last ``count`` valid positions of each row. bool [B, T] -> bool [B, T]."""
    still_to_come = valid.sum(dim=1, keepdim=True) - valid.cumsum(dim=1)
    return valid & (still_to_come < count)
