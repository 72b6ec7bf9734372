"""``distilrec compare``: recorded requests asked again of two versions that are served at the same time."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.client import RecommenderClient
from clients.codec import Recommendations
from clients.errors import ClientError
from distilrec.core.errors import DataError
from distilrec.core.recorded import RecordedRequest
from distilrec.evaluation.comparison import ListComparison, compare_lists
from distilrec.evaluation.counterfactual import CounterfactualEstimate, snips
from distilrec.evaluation.slices import HEAD_IS_ONE_IN

_QUANTILES = {"p50": 50, "p99": 99}


@dataclass(frozen=True)
class Comparison:
    """Two versions, asked the same recorded requests."""

    lists: ListComparison
    versions: tuple[str, str]
    """Numbers of the two versions."""
    ids: tuple[str, ...]
    """Item ids; ``ids[index - 1]`` belongs to an index in ``lists``."""
    latency_ms: dict[str, tuple[float, float]]
    """Quantiles of the latency of both, one request at a time."""
    failed: tuple[int, int]
    """Requests that each version did not answer; they are left out."""
    estimates: tuple[CounterfactualEstimate | None, CounterfactualEstimate | None]
    """Mean reward of a shown item under each; None without logged propensities and rewards."""


def compare(
    served: RecommenderClient,
    other: RecommenderClient,
    requests: Sequence[RecordedRequest],
    k: int,
    groups: Mapping[str, str] | None = None,
) -> Comparison:
    """Ask both versions each request, alternately first, one at a time.

    Args:
        served: Client of the version that serves.
        other: Client of the other one.
        requests: Recorded requests.
        k: Length of the answers.
        groups: Group of each item by its id, for the exposure; None takes the items that the recorded histories hold most often,
            20 % of them, and all others.

    Raises:
        DataError: not one request was answered by both.
    """
    answered, pairs, failed = _ask_all(served, other, requests, k)
    if not pairs:
        raise DataError(f"found no answer of both versions to any of {len(requests)} requests ({failed[0]} and {failed[1]} failed)")
    ids = tuple(dict.fromkeys(item for pair in pairs for answer in pair for item in answer.ids))
    index = {item: place for place, item in enumerate(ids, start=1)}
    lists = [_padded([[index[item] for item in pair[which].ids] for pair in pairs], k) for which in (0, 1)]
    masks = _masks(ids, groups or popularity_groups(requests, ids))
    latency = [[pair[which].latency_ms for pair in pairs] for which in (0, 1)]
    return Comparison(
        compare_lists(lists[0], lists[1], masks),
        (pairs[-1][0].model_version, pairs[-1][1].model_version),
        ids,
        {name: (float(np.percentile(latency[0], q)), float(np.percentile(latency[1], q))) for name, q in _QUANTILES.items()},
        failed,
        (_estimate(answered, [pair[0] for pair in pairs]), _estimate(answered, [pair[1] for pair in pairs])),
    )


def _ask_all(
    served: RecommenderClient, other: RecommenderClient, requests: Sequence[RecordedRequest], k: int
) -> tuple[list[RecordedRequest], list[tuple[Recommendations, Recommendations]], tuple[int, int]]:
    """The requests that both answered, both answers to each, and how many requests each one failed."""
    for client in (served, other):  # the first request would also load the vocabulary
        client.vocabulary()
    answered, pairs, failed = [], [], [0, 0]
    for place, request in enumerate(requests):
        order = (0, 1) if place % 2 == 0 else (1, 0)
        answers = dict(zip(order, [_ask((served, other)[which], request, k) for which in order], strict=True))
        for which in (0, 1):
            failed[which] += answers[which] is None
        one, two = answers[0], answers[1]
        if one is not None and two is not None:
            answered.append(request)
            pairs.append((one, two))
    return answered, pairs, (failed[0], failed[1])


def as_json(comparison: Comparison) -> dict[str, Any]:
    """All figures, ready for JSON, with item ids."""
    lists = asdict(comparison.lists)
    for name in ("newly_shown", "lost"):
        lists[name] = [{"item_id": comparison.ids[item - 1], "requests": times} for item, times in lists[name]]
    estimates = [None if estimate is None else asdict(estimate) for estimate in comparison.estimates]
    rest = {"versions": comparison.versions, "latency_ms": comparison.latency_ms, "failed": comparison.failed}
    return rest | lists | {"estimated_reward": estimates}


def describe(comparison: Comparison) -> list[str]:
    """The figures as lines for people."""
    lists, (former, new) = comparison.lists, comparison.versions
    tau = "unknown (no two items in common)" if lists.rank_correlation is None else f"{lists.rank_correlation:.3f}"
    lines = [
        f"{lists.requests} requests to version {former} (served) and version {new}; first {lists.k} items",
        f"overlap {lists.overlap:.3f}; same list for {lists.identical:.1%} of the requests; rank correlation (Kendall's tau) {tau}",
    ]
    for what, items in (("shown by the new version alone", lists.newly_shown), ("shown by the served version alone", lists.lost)):
        named = ", ".join(f"{comparison.ids[item - 1]} ({times})" for item, times in items) or "none"
        lines.append(f"{what}, with requests: {named}")
    lines += [f"exposure of {name}: {one:.1%} -> {two:.1%}" for name, (one, two) in lists.exposure.items()]
    lines += [f"latency {name}: {one:.2f} ms -> {two:.2f} ms" for name, (one, two) in comparison.latency_ms.items()]
    if any(comparison.failed):
        lines.append(f"warning: {comparison.failed[0]} and {comparison.failed[1]} requests failed and are left out")
    for version, estimate in zip(comparison.versions, comparison.estimates, strict=True):
        if estimate is not None:
            lines.append(
                f"estimated reward of a shown item under version {version} (SNIPS): {estimate.value:.4f} ({estimate.low:.4f} to"
                f" {estimate.high:.4f}), from {estimate.requests} requests, {estimate.effective_items:.0f} effective items"
            )
    return lines


def read_groups(path: Path) -> dict[str, str]:
    """Group of each item from a CSV file with the columns ``item_id`` and ``group``.

    Raises:
        DataError: there is no such file or column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            return {row["item_id"]: row["group"] or "none" for row in rows}
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error!r}), expected a CSV file with the columns item_id and group") from error


def popularity_groups(requests: Sequence[RecordedRequest], ids: Iterable[str]) -> dict[str, str]:
    """Items by how often the recorded histories hold them: head and tail."""
    counts = Counter(item for request in requests for item in request.history)
    head = {item for item, _ in counts.most_common(-(-len(counts) // HEAD_IS_ONE_IN))}
    return {item: "head items of the recorded histories" if item in head else "other items" for item in {*ids, *counts}}


def _ask(client: RecommenderClient, request: RecordedRequest, k: int) -> Recommendations | None:
    try:
        return client.recommend(request.history, k, request.exclude, **request.options)
    except ClientError:
        return None


def _padded(rows: Sequence[Sequence[int]], k: int) -> NDArray[np.int64]:
    return np.array([[*row, *[0] * (k - len(row))] for row in rows], np.int64)


def _masks(ids: Sequence[str], groups: Mapping[str, str]) -> dict[str, NDArray[np.bool_]]:
    names = [groups.get(item, "none") for item in ids]
    return {name: np.array([False, *[own == name for own in names]]) for name in sorted(set(names))}


def _estimate(requests: Sequence[RecordedRequest], answers: Sequence[Recommendations]) -> CounterfactualEstimate | None:
    """SNIPS over the requests that were logged with propensities and rewards."""
    logged = [(r, a) for r, a in zip(requests, answers, strict=True) if r.propensities and r.rewards]
    if not logged:
        return None
    width = max(len(request.shown) for request, _ in logged)
    shown, propensities, rewards = (
        np.zeros((len(logged), width), np.bool_),
        np.ones((len(logged), width)),
        np.zeros((len(logged), width)),
    )
    for row, (request, answer) in enumerate(logged):
        count = len(request.shown)
        would = set(answer.ids[:count])
        shown[row, :count] = [item in would for item in request.shown]
        propensities[row, :count], rewards[row, :count] = request.propensities, request.rewards
    return snips(shown, propensities, rewards)
