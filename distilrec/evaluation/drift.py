"""How far live requests have moved away from what a model was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distilrec.evaluation.metrics import Floats
from distilrec.evaluation.slices import head_items

BANDS = 10
"""Bands of popularity, and of history lengths."""

MIN_REQUESTS = 200
"""Fewest requests with a known item that indices are computed from: without any drift the index of n requests is about
(bands - 1) / n, and that of few requests would look like drift."""

DRIFTED_INDEX = 0.25
"""Index from which a distribution counts as changed (Siddiqi 2006); below 0.1 it counts as the same."""

DRIFTED_UNKNOWN_SHARE = 0.1
"""Share of unknown ids from which requests count as drifted."""

_FLOOR = 1e-4
"""Smallest share of a band, so that an empty one has a finite logarithm."""


@dataclass(frozen=True)
class Drift:
    """Live requests against training."""

    requests: int
    empty_share: float
    """Share of the requests without a history, which are not counted in what follows."""
    unknown_share: float
    """Share of the items in histories that the vocabulary does not have."""
    head_share: float
    """Share of the known items in histories that are among the 20 % most popular ones of the training."""
    training_head_share: float
    """The same share of the training interactions."""
    popularity_index: float | None
    """Population stability index of the popularity of items; None with fewer than ``MIN_REQUESTS`` requests."""
    median_length: float
    """Of live histories, unknown items included."""
    training_median_length: float
    length_index: float | None
    """Population stability index of the lengths of histories, cut at the model's; None likewise."""

    @property
    def drifted(self) -> bool | None:
        """Whether something is beyond its limit; None where there are too few requests to say so."""
        if self.popularity_index is None or self.length_index is None:
            return None
        return max(self.popularity_index, self.length_index) > DRIFTED_INDEX or self.unknown_share > DRIFTED_UNKNOWN_SHARE

    @property
    def reason(self) -> str:
        """The verdict in a sentence."""
        counted = f"{self.requests:,} live requests against training: {self.unknown_share:.1%} of their items are unknown"
        if self.popularity_index is None or self.length_index is None:
            return f"{counted}; there are fewer than {MIN_REQUESTS} with a known item, too few to say whether they drift"
        return (
            f"{'drift' if self.drifted else 'no drift'}: {counted} (limit {DRIFTED_UNKNOWN_SHARE:.0%}), popularity index"
            f" {self.popularity_index:.3f}, history length index {self.length_index:.3f} (limit {DRIFTED_INDEX})"
        )


def measure_drift(
    histories: Sequence[Sequence[int]], counts: NDArray[np.int64], lengths: NDArray[np.int64], history_length: int
) -> Drift:
    """Compare live histories with those of the training.

    Args:
        histories: Item indices of each request's whole history, 0 for an unknown item.
        counts: Training interactions of each item, int64 [N + 1].
        lengths: Lengths of the training histories, int64 [users].
        history_length: L, at which lengths are cut.
    """
    filled = [history for history in histories if len(history)]
    items = np.array([item for history in filled for item in history], np.int64)
    known = items[items != 0]
    enough = sum(any(history) for history in filled) >= MIN_REQUESTS
    live = np.array([len(history) for history in filled], np.int64)
    head = head_items(counts)
    training = lengths[lengths > 0]
    return Drift(
        requests=len(histories),
        empty_share=1 - len(filled) / len(histories) if histories else 0.0,
        unknown_share=float((items == 0).mean()) if len(items) else 0.0,
        head_share=float(head[known].mean()) if len(known) else 0.0,
        training_head_share=float(counts[head].sum() / max(1, counts.sum())),
        popularity_index=popularity_index(known, counts) if enough else None,
        median_length=float(np.median(live)) if len(live) else 0.0,
        training_median_length=float(np.median(training)),
        length_index=length_index(np.minimum(live, history_length), np.minimum(training, history_length)) if enough else None,
    )


def stability_index(expected: Floats, actual: Floats) -> float:
    """Population stability index of two distributions over the same bands: sum of (actual - expected) * ln(actual / expected).

    It is the symmetrised Kullback-Leibler divergence (Siddiqi 2006; Lin 2017), 0 for equal distributions.

    Args:
        expected: Amounts in each band, float64 [bands].
        actual: Likewise.
    """
    one, other = (np.maximum(amounts / amounts.sum(), _FLOOR) for amounts in (expected, actual))
    return float(((other - one) * np.log(other / one)).sum())


def popularity_index(items: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    """Index of the popularity of live items: bands of items hold about as many training interactions each, the most popular first.

    Args:
        items: Known items of live requests, int64 [n].
        counts: Training interactions of each item, int64 [N + 1].
    """
    order = np.argsort(-counts[1:], kind="stable") + 1
    below = np.cumsum(counts[order]) - counts[order]
    band = np.zeros(len(counts), np.int64)
    band[order] = np.minimum(BANDS - 1, below * BANDS // max(1, counts.sum()))
    expected = np.bincount(band, weights=counts, minlength=BANDS).astype(np.float64)
    actual = np.bincount(band[items], minlength=BANDS).astype(np.float64)
    used = (expected + actual) > 0
    return stability_index(expected[used], actual[used])


def length_index(live: NDArray[np.int64], training: NDArray[np.int64]) -> float:
    """Index of history lengths, in bands that are cut at the deciles of the training; both int64."""
    edges = np.unique(np.quantile(training, np.arange(1, BANDS) / BANDS))
    expected, actual = (
        np.bincount(np.searchsorted(edges, lengths), minlength=len(edges) + 1).astype(np.float64) for lengths in (training, live)
    )
    used = (expected + actual) > 0
    return stability_index(expected[used], actual[used])
