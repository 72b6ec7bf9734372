"""Base classes of teachers and students, and the recommender that is built on them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from distill.data.sequences import Batch
from distill.models.choices import FilterMask, mask_all_but
from distill.models.item_table import ItemTable, is_item
from distilrec.core.specs import MASKED_SCORE, PADDING, RecommenderSpec, table_rows
from distilrec.data.item_filters import ItemFilters

_SMALLEST_NORM = 1e-12
"""Length of a vector of zeros, by which nothing can be divided."""


class Scorer(nn.Module, ABC):
    """A model that scores the whole catalogue: an encoder, a closed-form model or a mixture. Each can be a teacher."""

    item_count: int

    @abstractmethod
    def score_prefixes(self, history: Tensor, valid: Tensor) -> Tensor:
        """Logits of items 1..N at M positions. int64 [B, T], *right*-padded with 0; bool [B, T] -> float32 [M, N]."""

    @abstractmethod
    def score_last(self, history: Tensor) -> Tensor:
        """Scores of all table rows after the whole history. int64 [B, L], *left*-padded with 0 -> float32 [B, rows]."""

    def parameter_count(self) -> int:
        """Numbers needed at inference, once the item table is folded."""
        return sum(parameter.numel() for parameter in self.parameters())


class Encoder(Scorer):
    """Turns histories into user vectors; the score of an item is the product of the two vectors.

    Args:
        items: the item table, size d; where its first coordinate is popularity, an empty history is answered with that.
    """

    cold_start: Tensor

    freezes_midway = False
    """Whether ``start_epoch`` changes which parameters learn."""

    def __init__(self, items: ItemTable) -> None:
        super().__init__()
        self.items = items
        self.item_count = items.item_count
        cold_start = torch.zeros(items.embedding_size)
        cold_start[0] = 1.0  # scores are then the popularity coordinate
        self.register_buffer("cold_start", cold_start, persistent=False)

    @abstractmethod
    def encode_all(self, history: Tensor) -> Tensor:
        """User vectors at every position. int64 [B, T], *right*-padded with 0 -> float32 [B, T, d]. For training."""

    @abstractmethod
    def encode_last(self, history: Tensor) -> Tensor:
        """User vectors after the whole history. int64 [B, L], *left*-padded with 0 -> float32 [B, d]. For serving.

        ``cold_start`` for an empty history (``popular_if_empty``).
        """

    def popular_if_empty(self, user_vectors: Tensor, present: Tensor) -> Tensor:
        """User vectors, replaced by ``cold_start`` in rows without an item. float32 [B, d] and bool [B, L] -> float32 [B, d]."""
        return torch.where(present.any(dim=1, keepdim=True), user_vectors, self.cold_start)

    def encode_prefixes(self, history: Tensor, valid: Tensor) -> Tensor:
        """User vectors at M positions. int64 [B, T], *right*-padded; bool [B, T] -> float32 [M, d]."""
        return self.encode_all(history)[valid]

    def training_examples(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """User vectors float32 [M, d], their targets int64 [M] (0: none) and prefixes int64 [M], to learn from."""
        return self.encode_prefixes(batch.history, batch.valid), batch.targets, batch.prefixes

    def start_epoch(self, epoch: int) -> None:
        """Called before each epoch. The effect may depend on ``epoch`` alone, so that a resumed training is exact."""

    def pretrained_parameters(self) -> tuple[list[nn.Parameter], float]:
        """Parameters with a separate learning rate, and that rate."""
        return [], 0.0

    def score_prefixes(self, history: Tensor, valid: Tensor) -> Tensor:
        """See ``Scorer``."""
        return self.score_vectors(self.encode_prefixes(history, valid))

    def score_vectors(self, vectors: Tensor) -> Tensor:
        """Logits of items 1..N for user vectors. float32 [M, d] -> float32 [M, N]."""
        return nn.functional.linear(vectors, self.items()[1 : self.item_count + 1])

    def score_last(self, history: Tensor) -> Tensor:
        """See ``Scorer``."""
        return self.items.scores(self.encode_last(history))

    def score_similar(self, history: Tensor, similar: Tensor, inverse_norms: Tensor) -> Tensor:
        """As ``score_last``; in rows that ask for it, the cosine of each item's vector to that of the newest item.

        Args:
            history: int64 [B, L], *left*-padded with 0.
            similar: bool [B, 1], the rows that ask for it.
            inverse_norms: float32 [rows], 1 / the length of each row of the item table.
        """
        newest = history[:, -1:]  # (B, 1)
        similar = similar & is_item(newest, self.item_count)
        vectors = torch.where(similar, self.items.embed(newest)[:, 0], self.encode_last(history))
        own = inverse_norms.expand(newest.shape[0], -1).gather(1, newest)  # (B, 1)
        return self.items.scores(vectors) * torch.where(similar, own * inverse_norms, 1.0)


def starting_at_zero(linear: nn.Linear) -> nn.Linear:
    """The layer with weights and biases set to zero: item vectors start small, and a random addition would outweigh them."""
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


class Recommender(nn.Module):
    """The serving contract as a graph: seen and excluded items are masked and the top K taken inside.

    Indices outside 1..N count as padding, so that a bad request cannot fail the batch it is put in.

    Args:
        scorer: The model.
        spec: Sizes of the tensors.
        filters: Attributes of the items, which requests filter by; needed where requests choose and the spec has filters.
        retired: Indices of items that are never returned.
    """

    filler: Tensor
    inverse_norms: Tensor | None

    def __init__(
        self, scorer: Scorer, spec: RecommenderSpec, filters: ItemFilters | None = None, *, retired: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.scorer = scorer
        self.spec = spec
        self.filter_mask = FilterMask(filters) if filters is not None and spec.filter_length else None
        never = [PADDING, *range(spec.item_count + 1, table_rows(spec.item_count)), *retired]
        self.register_buffer("filler", torch.tensor(never))
        inverse_norms = None
        if spec.similar and isinstance(scorer, Encoder):
            inverse_norms = 1 / scorer.items().detach().norm(dim=1).clamp(min=_SMALLEST_NORM)
        self.register_buffer("inverse_norms", inverse_norms, persistent=False)

    def forward(self, history: Tensor, exclude: Tensor, *choices: Tensor) -> tuple[Tensor, Tensor]:
        """int32 [B, L] and [B, E] -> items int32 [B, K] (0 where none is left) and scores float32 [B, K], best first.

        ``choices`` are the optional tensors of the spec, in its order; they are left out where nothing is chosen.
        """
        best, items = torch.topk(self.masked_scores(history, exclude, *choices), self.spec.top_k, dim=1)
        items = torch.where(best > MASKED_SCORE / 2, items, PADDING)
        return items.to(torch.int32), best

    def masked_scores(self, history: Tensor, exclude: Tensor, *choices: Tensor) -> Tensor:
        """Scores of all table rows, ``MASKED_SCORE`` for those that must not be returned. Arguments as in ``forward``."""
        item_count = self.spec.item_count
        chosen = dict(zip((tensor.name for tensor in self.spec.choices), choices, strict=True)) if choices else {}
        history = torch.where(is_item(history, item_count), history, PADDING).long()
        exclude = torch.where(is_item(exclude, item_count), exclude, PADDING).long()
        scores = self._scores(history, chosen)  # (B, rows)
        seen = torch.where(chosen["repeats"] == 1, PADDING, history) if "repeats" in chosen else history
        filler = self.filler.expand(history.shape[0], -1)
        banned = torch.cat([filler, seen, exclude], dim=1)
        return scores.scatter(1, banned, MASKED_SCORE)

    def cannot(self) -> list[str]:
        """Names of the optional tensors of the spec that this model cannot follow: it lacks attributes, or vectors of items."""
        lacking = {"filter": self.filter_mask is None, "similar": self.inverse_norms is None}
        return [tensor.name for tensor in self.spec.choices if lacking.get(tensor.name)]

    def _scores(self, history: Tensor, chosen: dict[str, Tensor]) -> Tensor:
        """Scores of all rows of the table, those of unwanted items masked. int64 [B, L] -> float32 [B, rows]."""
        if "similar" in chosen and self.inverse_norms is not None and isinstance(self.scorer, Encoder):
            scores = self.scorer.score_similar(history, chosen["similar"] == 1, self.inverse_norms)
        else:
            scores = self.scorer.score_last(history)
        if "filter" in chosen and self.filter_mask is not None:
            scores = self.filter_mask(scores, chosen["filter"])
        if "allow" in chosen:
            scores = mask_all_but(scores, chosen["allow"], self.spec.item_count)
        return scores
