"""The serving contract of all models: PyTorch, ONNX in all precisions, engines, a live server.

:func:`check_contract` raises where a promise is broken; :func:`agreement` measures how a lower precision changes the ranking.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distilrec.core.errors import ParityError
from distilrec.core.runner import NOTHING_CHOSEN, Answer, Choices, Runner, chosen_rows, request_arrays
from distilrec.core.specs import MASKED_SCORE, PADDING, Precision, RecommenderSpec
from distilrec.data.dataset import HeldOut
from distilrec.data.item_filters import ItemFilters
from distilrec.evaluation.metrics import overlap
from distilrec.evaluation.parity import SCORE_TOLERANCE, compare
from distilrec.evaluation.ranking import ranking_metrics

BATCH_TOLERANCE = {Precision.FP32: SCORE_TOLERANCE, Precision.FP16: 0.02, Precision.INT8: 0.05}
"""Largest difference of the scores of one request between batches. Kernels for other batch sizes add in another order, and a sum
near the middle of two steps may be rounded to either."""

_INVARIANCE_ROWS = 8
"""Requests that are also sent alone and twice in a batch."""


@dataclass(frozen=True)
class Agreement:
    """Comparison of a model's answers with those of a reference, over the same held-out users."""

    ndcg: float
    """NDCG@10 of the model."""
    ndcg_loss: float
    """Share of the reference's NDCG@10 that is lost; negative where the model is better."""
    overlap_at_10: float
    """Mean share of the first 10 items that both models have, in any order."""
    overlap_at_100: float
    """Mean share of the first 100 (or K) items that both models have, in any order."""
    score_error: float
    """Largest difference of the scores of an item that both models return."""


def agreement(reference: Answer, candidate: Answer, users: HeldOut) -> Agreement:
    """Compare two answers to the same users; the items are int32 [U, K], the scores float32 [U, K]."""
    items, scores = candidate
    reference_items, reference_scores = reference
    ndcg = ranking_metrics(items, users)["ndcg@10"]
    reference_ndcg = ranking_metrics(reference_items, users)["ndcg@10"]
    return Agreement(
        ndcg=ndcg,
        ndcg_loss=(reference_ndcg - ndcg) / reference_ndcg if reference_ndcg else 0.0,
        overlap_at_10=float(overlap(reference_items, items, 10).mean()),
        overlap_at_100=float(overlap(reference_items, items, 100).mean()),
        score_error=_score_error(reference_items, reference_scores, items, scores),
    )


def check_contract(
    runner: Runner,
    spec: RecommenderSpec,
    history: NDArray[np.int32],
    exclude: NDArray[np.int32],
    tolerance: float,
    *,
    choices: Choices = NOTHING_CHOSEN,
    filters: ItemFilters | None = None,
) -> None:
    """Run a model and check every promise of the serving contract.

    Items whose scores lie within ``tolerance`` may stand in any order.

    Args:
        runner: Model to check.
        spec: Sizes of the model.
        history: Histories of B requests, int32 [B, L]; see also ``parity.edge_requests``.
        exclude: Items to exclude, int32 [B, E].
        tolerance: Largest difference of scores between batches (``BATCH_TOLERANCE``).
        choices: What else the requests choose.
        filters: Attributes of the items; without them, it is not checked that items fit a filter.

    Raises:
        ParityError: A promise is broken; the message names it.
    """
    items, scores = runner.recommend(history, exclude, choices)
    for tensor, array in ((spec.items, items), (spec.scores, scores)):
        if array.shape != (len(history), *tensor.shape) or array.dtype != tensor.dtype:
            raise ParityError(
                f"{tensor.name}: found {array.dtype} {list(array.shape)}, expected {tensor.dtype} [{len(history)}, {spec.top_k}]"
            )
    _check_items(items, spec, history, exclude, choices)
    _check_choices(items, request_arrays(spec, history, exclude, choices), filters)
    _check_scores(items, scores)
    _check_invariance(runner, (items, scores), request_arrays(spec, history, exclude, choices), tolerance)


def _check_invariance(runner: Runner, answer: Answer, arrays: dict[str, NDArray[np.int32]], tolerance: float) -> None:
    """Check that a request gets the same answer alone, in a batch and twice in a batch."""
    items, scores = answer
    history, exclude, choices = arrays.pop("history"), arrays.pop("exclude"), arrays
    rows = min(_INVARIANCE_ROWS, len(history))
    for row in range(rows):
        expected = (items[row : row + 1], scores[row : row + 1])
        alone = runner.recommend(history[row : row + 1], exclude[row : row + 1], chosen_rows(choices, slice(row, row + 1)))
        order = np.array([row, *range(rows - 1), row])
        twice = runner.recommend(history[order], exclude[order], chosen_rows(choices, order))
        _check_same(expected, alone, tolerance, f"request {row} in a batch of {len(history)} and alone")
        first, last = ((twice[0][place, None], twice[1][place, None]) for place in (0, -1))
        _check_same(first, last, tolerance, f"request {row} twice in a batch")
        _check_same(expected, first, tolerance, f"request {row} in a batch of {len(history)} and of {rows + 1}")


def _check_items(
    items: NDArray[np.int32],
    spec: RecommenderSpec,
    history: NDArray[np.int32],
    exclude: NDArray[np.int32],
    choices: Choices,
) -> None:
    if items.min(initial=0) < PADDING or items.max(initial=0) > spec.item_count:
        raise ParityError(
            f"found items {items.min()}..{items.max()}, expected 1..{spec.item_count}: a table row without an item was returned"
        )
    seen = np.where(choices["repeats"] == 1, PADDING, history) if "repeats" in choices else history
    for row, (ranked, banned) in enumerate(zip(items, np.concatenate([seen, exclude], axis=1), strict=True)):
        real = ranked[ranked != PADDING]
        if len(np.unique(real)) != len(real):
            raise ParityError(f"row {row}: found an item twice, expected each at most once")
        if np.isin(real, banned).any():
            raise ParityError(f"row {row}: found an item that was seen or excluded, expected it to be masked")


def _check_choices(items: NDArray[np.int32], arrays: Choices, filters: ItemFilters | None) -> None:
    """Check that each item fits the filter, and stands on the list of allowed ones."""
    if filters is not None and "filter" in arrays:
        fits = np.take_along_axis(filters.fits(arrays["filter"]), items, axis=1)
        if not (fits | (items == PADDING)).all():
            raise ParityError("found an item that does not fit the request's filter, expected it to be masked")
    for ranked, allowed in zip(items, arrays.get("allow", np.zeros((len(items), 1), np.int32)), strict=True):
        if allowed.any() and not np.isin(ranked[ranked != PADDING], allowed).all():
            raise ParityError("found an item that is not on the request's list of allowed ones, expected it to be masked")


def _check_scores(items: NDArray[np.int32], scores: NDArray[np.float32]) -> None:
    if np.isnan(scores).any():
        raise ParityError("found scores that are no numbers, expected finite ones; the weights are broken")
    if (np.diff(scores, axis=1) > 0).any():
        raise ParityError("found scores that rise along a list, expected best first")
    if ((items == PADDING) != (scores <= MASKED_SCORE / 2)).any():
        raise ParityError("found an empty rank with a score, or an item with the score of a masked one")


def _check_same(expected: Answer, found: Answer, tolerance: float, where: str) -> None:
    difference = compare(expected, found, tolerance)
    if not difference.max_score_error <= tolerance or difference.misplaced:
        raise ParityError(
            f"{where}: found scores {difference.max_score_error:.2g} apart and {difference.misplaced} item(s) out of place,"
            f" expected at most {tolerance} and none"
        )


def _score_error(
    reference_items: NDArray[np.int32], reference_scores: NDArray[np.float32], items: NDArray[np.int32], scores: NDArray[np.float32]
) -> float:
    largest = 0.0
    for reference_row, reference_score, row, score in zip(reference_items, reference_scores, items, scores, strict=True):
        _, places, reference_places = np.intersect1d(
            row[row != PADDING], reference_row[reference_row != PADDING], return_indices=True
        )
        largest = max(largest, float(np.abs(score[places] - reference_score[reference_places]).max(initial=0.0)))
    return largest
