"""Parity of a converted model with its original: equal scores, and equal items up to ties."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distilrec.core.errors import ParityError
from distilrec.core.runner import NOTHING_CHOSEN, Answer, Choices, Runner, chosen_rows
from distilrec.core.specs import MASKED_SCORE, RecommenderSpec

SCORE_TOLERANCE = 1e-4
"""Largest difference of scores in FP32: runtimes add float32 numbers in different orders."""

_SINGLE_REQUESTS = 8
"""Requests that are also sent one by one."""


@dataclass(frozen=True)
class Parity:
    """Comparison of two answers to the same requests."""

    rows: int
    max_score_error: float
    """Largest difference of scores at the same rank."""
    misplaced: int
    """Number of items whose rank differs without a tie."""
    tied: int
    """Number of items whose rank differs, but whose scores are tied."""

    def metrics(self) -> dict[str, int | float]:
        """What a manifest keeps of a comparison that passed."""
        return {
            "parity_rows": self.rows,
            "parity_max_score_error": self.max_score_error,
            "parity_tied_items": self.tied,
        }


def compare(reference: Answer, candidate: Answer, tolerance: float = SCORE_TOLERANCE) -> Parity:
    """Compare answers rank by rank.

    Two items may change places when the reference scores them within ``tolerance`` of each other. An item that is not in
    the reference's list counts as tied with the list's last when its score says so. Ranks filled with 0 must be filled in both.
    """
    reference_items, reference_scores = reference
    items, scores = candidate
    # "Not empty" rather than "full": a NaN must count as an error, not as an empty rank.
    filled = ~((reference_scores <= MASKED_SCORE / 2) | (scores <= MASKED_SCORE / 2))
    errors = np.where(filled, np.abs(reference_scores - scores), 0.0)
    own_score = _score_in(reference_items, reference_scores, items)
    # Outside the reference's list an item scores at most as much as its last, and at least what the candidate says.
    own_score = np.where(np.isnan(own_score), np.minimum(scores, reference_scores[:, -1:]), own_score)
    differs = items != reference_items
    tied = differs & (np.abs(own_score - reference_scores) <= tolerance) & filled
    return Parity(len(items), float(errors.max(initial=0.0)), int((differs & ~tied).sum()), int(tied.sum()))


def check_parity(
    reference: Runner,
    candidate: Runner,
    history: NDArray[np.int32],
    exclude: NDArray[np.int32],
    choices: Choices = NOTHING_CHOSEN,
) -> Parity:
    """Send both models the same requests, one by one and in a batch, and compare the answers.

    Args:
        reference: The original.
        candidate: The converted model.
        history: Histories of B requests, int32 [B, L].
        exclude: Items to exclude, int32 [B, E].
        choices: What else the requests choose.

    Raises:
        ParityError: A score differs by more than ``SCORE_TOLERANCE``, or an item has another rank without a tie.
    """
    expected = reference.recommend(history, exclude, choices)
    rows = [slice(place, place + 1) for place in range(min(_SINGLE_REQUESTS, len(history)))]
    singles = [candidate.recommend(history[row], exclude[row], chosen_rows(choices, row)) for row in rows]
    alone: Answer = (np.concatenate([items for items, _ in singles]), np.concatenate([scores for _, scores in singles]))
    parity = compare(expected, candidate.recommend(history, exclude, choices))
    expected_alone = (expected[0][: len(singles)], expected[1][: len(singles)])
    for found, how in ((parity, "in a batch"), (compare(expected_alone, alone), "alone")):
        if not found.max_score_error <= SCORE_TOLERANCE or found.misplaced:
            raise ParityError(
                f"found scores up to {found.max_score_error:.2g} apart and {found.misplaced} item(s) out of place in {found.rows}"
                f" requests ({how}), expected at most {SCORE_TOLERANCE} and none; the model is not exported"
            )
    return parity


def edge_requests(spec: RecommenderSpec) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Requests at the contract's edges: empty history, one item, indices outside 1..N, nearly everything excluded."""
    history = np.zeros((5, spec.history_length), np.int32)
    exclude = np.zeros((5, spec.exclude_length), np.int32)
    history[1, -1] = 1
    history[2, :] = np.resize([-1, spec.item_count + 1, 2**31 - 1, -(2**31), 1], spec.history_length)
    exclude[3, :] = np.resize([-5, spec.item_count + 7, 2**31 - 1], spec.exclude_length)
    banned = np.arange(1, spec.item_count + 1, dtype=np.int32)
    history[4, -min(len(banned), spec.history_length) :] = banned[: spec.history_length]
    rest = banned[spec.history_length :][: spec.exclude_length]
    exclude[4, : len(rest)] = rest
    return history, exclude


def draw_choices(spec: RecommenderSpec, value_count: int, rows: int) -> dict[str, NDArray[np.int32]]:
    """Optional tensors for requests that try what a model lets them choose; the same arguments give the same choices.

    Each request asks for something else: nothing, one attribute value or several, a list of items, repeats, similar items, and
    now and then for codes and items that do not exist.

    Args:
        spec: Sizes of the model.
        value_count: G, number of values of all attributes.
        rows: Number of requests.
    """
    random = np.random.default_rng(rows)
    largest = {"filter": value_count, "allow": spec.item_count, "repeats": 1, "similar": 1}
    choices = {}
    for place, tensor in enumerate(spec.choices):
        values = random.integers(1, largest[tensor.name] + 1, (rows, *tensor.shape), dtype=np.int32)
        some = random.random(values.shape) < random.random((rows, 1))  # of few values or of many
        if tensor.shape[0] > 1:
            some[:, 0] = True
            values[::7, -1] = largest[tensor.name] + 1
        asks = (np.arange(rows) + place) % (len(spec.choices) + 1) < (len(spec.choices) + 1) // 2
        choices[tensor.name] = np.where(some & asks[:, None], values, 0).astype(np.int32)
    return choices


def _score_in(items: NDArray[np.int32], scores: NDArray[np.float32], wanted: NDArray[np.int32]) -> NDArray[np.float64]:
    """Score of each wanted item in its row's list, NaN where it is not in the list. float64 [B, K]."""
    order = np.argsort(items, axis=1, kind="stable")
    ordered = np.take_along_axis(items, order, axis=1)
    places = np.stack([np.searchsorted(row, want) for row, want in zip(ordered, wanted, strict=True)])
    places = np.minimum(places, items.shape[1] - 1)
    found = np.take_along_axis(np.take_along_axis(scores, order, axis=1), places, axis=1).astype(np.float64)
    return np.where(np.take_along_axis(ordered, places, axis=1) == wanted, found, np.nan)
