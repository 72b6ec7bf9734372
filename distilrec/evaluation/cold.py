"""How well items are recommended that nobody has touched: metrics among the whole catalogue and among these items alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distilrec.core.progress import progress
from distilrec.core.specs import MASKED_SCORE, PADDING
from distilrec.data.dataset import HeldOut
from distilrec.evaluation.ranking import Evaluation, UserMetrics, compare_metrics, user_metrics

POPULARITY = "popularity"
"""Name of the answer that is the same for everybody: the most popular items."""

NEIGHBOURS = "nearest neighbours by content"
"""Name of the answer that needs no training: the items most similar to the mean of the history's content."""

Scores = Callable[[NDArray[np.int32], NDArray[np.int32]], NDArray[np.float32]]
"""Scores of a batch of requests: history int32 [B, L], exclude int32 [B, E] -> float32 [B, N + 1], items that must not be returned
with ``MASKED_SCORE``."""

_BATCH_SIZE = 64


@dataclass(frozen=True)
class ColdMetrics:
    """Metrics of one model for each user: over the whole catalogue, and among cold items alone."""

    whole: UserMetrics
    among: UserMetrics


@dataclass(frozen=True)
class ColdEvaluation:
    """All models and two answers without training, evaluated by requests whose right answer is an item that nobody has touched."""

    items: int
    """Number of items whose interactions were held out."""
    whole: Evaluation
    """Ranking over the whole catalogue."""
    among: Evaluation
    """Ranking among the held-out items."""


def cold_metrics(
    scores: Scores, users: HeldOut, cold: NDArray[np.bool_], counts: NDArray[np.int64], *, ks: tuple[int, ...], title: str
) -> ColdMetrics:
    """Metrics of one model.

    Args:
        scores: The model.
        users: Requests whose right answers are cold items.
        cold: Mask of the cold items, bool [N + 1].
        counts: Training interactions of each item, int64 [N + 1].
        ks: Lengths of the lists.
        title: Label of the progress bar.
    """
    whole, among = [], []
    for start in progress(range(0, len(users.users), _BATCH_SIZE), desc=title, unit="batch", leave=False):
        rows = slice(start, start + _BATCH_SIZE)
        found = scores(users.history[rows], users.exclude[rows])
        whole.append(best_items(found, ks[-1]))
        among.append(best_items(np.where(cold, found, MASKED_SCORE), ks[-1]))
    return ColdMetrics(*(user_metrics(np.concatenate(items), users, counts, ks) for items in (whole, among)))


def best_items(scores: NDArray[np.float32], count: int) -> NDArray[np.int32]:
    """The best items, best first, 0 where none is left; of equal scores the lower index. float32 [B, N + 1] -> int32 [B, count]."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :count].astype(np.int32)
    return np.where(np.take_along_axis(scores, best, axis=1) > MASKED_SCORE / 2, best, PADDING)


def popularity_scores(counts: NDArray[np.int64]) -> Scores:
    """The number of training interactions, int64 [N + 1], as the score of an item."""

    def scores(history: NDArray[np.int32], exclude: NDArray[np.int32]) -> NDArray[np.float32]:
        return masked(np.tile(counts.astype(np.float32), (len(history), 1)), history, exclude)

    return scores


def neighbour_scores(vectors: NDArray[np.float32]) -> Scores:
    """Product of an item's vector and the mean vector of the history's items; float32 [N + 1, d], row 0 holds zeros."""

    def scores(history: NDArray[np.int32], exclude: NDArray[np.int32]) -> NDArray[np.float32]:
        means = vectors[history].sum(axis=1) / np.maximum((history != PADDING).sum(axis=1, keepdims=True), 1)
        return masked(means @ vectors.T, history, exclude)

    return scores


def masked(scores: NDArray[np.float32], history: NDArray[np.int32], exclude: NDArray[np.int32]) -> NDArray[np.float32]:
    """Scores float32 [B, N + 1], in which seen items, excluded items and padding are ``MASKED_SCORE``."""
    banned = np.concatenate([history, exclude, np.full((len(history), 1), PADDING, np.int32)], axis=1)
    np.put_along_axis(scores, banned, np.float32(MASKED_SCORE), axis=1)
    return scores


def compare_cold(models: Mapping[str, ColdMetrics], items: int, ks: tuple[int, ...]) -> ColdEvaluation:
    """Means with intervals, and differences to the answers without training.

    Args:
        models: Metrics by name, over the same users.
        items: Number of items that were held out.
        ks: Lengths of the lists.
    """
    references = [name for name in (POPULARITY, NEIGHBOURS) if name in models]
    whole, among = (
        compare_metrics({name: getattr(model, part) for name, model in models.items()}, [], references=references, ks=ks)
        for part in ("whole", "among")
    )
    return ColdEvaluation(items, whole, among)
