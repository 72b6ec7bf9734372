"""Several teachers as one: the weighted mean of their log-probabilities."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from distill.models.encoders import Scorer
from distilrec.core.specs import table_rows


class Ensemble(Scorer):
    """A product of experts, which is what ``teacher_inference.mix_soft_targets`` makes of their caches.

    Args:
        members: trained teachers of the same catalogue.
        weights: how much each counts; they need not sum to 1.
    """

    def __init__(self, members: Sequence[Scorer], weights: Sequence[float]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.shares = [weight / sum(weights) for weight in weights]
        self.item_count = members[0].item_count

    def score_prefixes(self, history: Tensor, valid: Tensor) -> Tensor:
        """See ``Scorer``; log-probabilities."""
        return self._mix([member.score_prefixes(history, valid) for member in self._scorers])

    def score_last(self, history: Tensor) -> Tensor:
        """See ``Scorer``; log-probabilities, 0 in rows without an item."""
        mixed = self._mix([member.score_last(history)[:, 1 : self.item_count + 1] for member in self._scorers])
        return nn.functional.pad(mixed, (1, table_rows(self.item_count) - self.item_count - 1))

    def parameter_count(self) -> int:
        """Parameters of all members together."""
        return sum(member.parameter_count() for member in self._scorers)

    @property
    def _scorers(self) -> list[Scorer]:
        return cast("list[Scorer]", list(self.members))

    def _mix(self, logits: Sequence[Tensor]) -> Tensor:
        return torch.stack([share * scores.log_softmax(dim=1) for share, scores in zip(self.shares, logits, strict=True)]).sum(
            dim=0
        )
