"""The judge of every hop: anything that recommends, asked for all held-out users, compared over the same users."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distilrec.core.progress import progress
from distilrec.core.runner import Answer, Runner
from distilrec.data.dataset import HeldOut
from distilrec.evaluation.bootstrap import Difference, Estimate, difference_of, estimate_of, resampled_means
from distilrec.evaluation.metrics import METRICS, Floats, coverage, popularity
from distilrec.evaluation.slices import Slice

KS = (5, 10, 20)
"""Where lists are cut."""

PRIMARY_K = 10
"""Cut of the metric that models are chosen and compared by: NDCG@10, as in most papers on sequential recommendation."""

EVERYBODY = "all users"

_BATCH_SIZE = 64


def recommend_all(runner: Runner, users: HeldOut, batch_size: int, title: str) -> Answer:
    """Answers for all held-out users, in batches."""
    starts = progress(range(0, len(users.users), batch_size), desc=title, unit="batch", leave=False)
    answers = [
        runner.recommend(users.history[start : start + batch_size], users.exclude[start : start + batch_size]) for start in starts
    ]
    return np.concatenate([items for items, _ in answers]), np.concatenate([scores for _, scores in answers])


def ranking_metrics(items: NDArray[np.int32], users: HeldOut, ks: tuple[int, ...] = (PRIMARY_K,)) -> dict[str, float]:
    """Means over users of all metrics, for example {"ndcg@10": 0.12, "hr@10": 0.22, "mrr@10": 0.09}."""
    return {f"{name}@{k}": float(metric(items, users.truth, k).mean()) for k in ks for name, metric in METRICS.items()}


def cuts(top_k: int) -> tuple[int, ...]:
    """The ``KS`` that lists of ``top_k`` items can be cut at."""
    return tuple(k for k in KS if k <= top_k) or (top_k,)


def primary(ks: Sequence[int]) -> str:
    """The metric that slices and hops are compared by: NDCG@10 where lists are that long."""
    return f"ndcg@{PRIMARY_K if PRIMARY_K in ks else ks[-1]}"


@dataclass(frozen=True)
class Judgement:
    """What one hop recommended, judged; a row for each of S seeds."""

    values: dict[str, Floats]
    """float64 [S, U] by metric ("ndcg@10", "popularity@10")."""
    coverage: dict[str, Floats]
    """float64 [S] by cut ("coverage@10")."""


def judge(items: NDArray[np.int32], users: HeldOut, counts: NDArray[np.int64], ks: Sequence[int] = KS) -> Judgement:
    """Judge one seed's answers.

    Args:
        items: int32 [U, K], what was recommended.
        users: who was asked.
        counts: int64 [N + 1], training interactions of each item.
        ks: where lists are cut, at most K.
    """
    values = {f"{name}@{k}": metric(items, users.truth, k)[None] for name, metric in METRICS.items() for k in ks}
    values |= {f"popularity@{k}": popularity(items, counts, k)[None] for k in ks}
    return Judgement(values, {f"coverage@{k}": np.array([coverage(items, len(counts) - 1, k)]) for k in ks})


def join_seeds(judgements: Sequence[Judgement]) -> Judgement:
    """Judgements of one hop under several seeds, by the same users in the same order, as one."""
    return Judgement(
        {name: np.concatenate([j.values[name] for j in judgements]) for name in judgements[0].values},
        {name: np.concatenate([j.coverage[name] for j in judgements]) for name in judgements[0].coverage},
    )


@dataclass(frozen=True)
class Group:
    """All hops as one group of users judges them."""

    meaning: str
    users: int
    estimates: dict[str, dict[str, Estimate]]
    """By hop and metric."""
    differences: dict[str, dict[str, dict[str, Difference]]]
    """By reference, hop and metric: the hop less the reference."""


@dataclass(frozen=True)
class Evaluation:
    """All hops, judged by all held-out users and by each slice of them."""

    primary: str
    """The metric of the slices' comparison."""
    everybody: Group
    coverage: dict[str, dict[str, float]]
    """By hop and cut: share of the catalogue that somebody is shown; mean over seeds."""
    slices: dict[str, Group]


def evaluate_runners(
    runners: Mapping[str, Runner],
    users: HeldOut,
    counts: NDArray[np.int64],
    slices: Sequence[Slice],
    *,
    references: Sequence[str] = (),
    ks: Sequence[int] = KS,
) -> Evaluation:
    """Ask all runners for all held-out users, and compare each with the references."""
    judged = {name: judge(recommend_all(r, users, _BATCH_SIZE, name)[0], users, counts, ks) for name, r in runners.items()}
    return compare(judged, slices, references=references, ks=ks)


def compare(
    judged: Mapping[str, Judgement], slices: Sequence[Slice], *, references: Sequence[str] = (), ks: Sequence[int] = KS
) -> Evaluation:
    """Means with intervals, and differences to the references, over all users and over each slice."""
    metrics = [f"{name}@{k}" for name in (*METRICS, "popularity") for k in ks]
    main = primary(ks)
    of_slices = [metric for metric in metrics if metric.partition("@")[2] == main.partition("@")[2]]
    everybody = np.ones(next(iter(judged.values())).values[main].shape[1], np.bool_)
    return Evaluation(
        main,
        _group(judged, Slice(EVERYBODY, "all users with something to be judged by", everybody), metrics, references),
        {hop: {cut: float(values.mean()) for cut, values in j.coverage.items()} for hop, j in judged.items()},
        {part.name: _group(judged, part, of_slices, references) for part in slices},
    )


def _group(judged: Mapping[str, Judgement], part: Slice, metrics: Sequence[str], references: Sequence[str]) -> Group:
    """One resampling of the group's users for all hops, metrics and differences, so that all are over the same draws."""
    seeds = {(hop, m): j.values[m][:, part.users] for hop, j in judged.items() for m in metrics}  # [S, U]
    columns: dict[tuple[str, ...], Floats] = {key: values.mean(axis=0) for key, values in seeds.items()}
    # Differences are columns of their own: that of two equal hops is 0 to the last bit.
    columns |= {(ref, hop, m): columns[hop, m] - columns[ref, m] for ref in references for hop in judged for m in metrics}
    means = resampled_means(np.stack(list(columns.values()), axis=1))
    drawn = dict(zip(columns, means.T, strict=True))

    def difference(reference: str, hop: str, metric: str) -> Difference:
        key = (reference, hop, metric)
        other = (reference, metric)
        return difference_of(float(columns[key].mean()), float(columns[other].mean()), drawn[key], drawn[other])

    return Group(
        part.meaning,
        int(part.users.sum()),
        {hop: {m: estimate_of(seeds[hop, m], drawn[hop, m]) for m in metrics} for hop in judged},
        {ref: {hop: {m: difference(ref, hop, m) for m in metrics} for hop in judged if hop != ref} for ref in references},
    )


@dataclass(frozen=True)
class Harm:
    """A slice in which a hop ranks worse than its reference."""

    slice: str
    users: int
    difference: Difference
    clear: bool
    """The whole interval lies below 0."""


def harm(evaluation: Evaluation, hop: str, reference: str) -> list[Harm]:
    """All slices in which ``hop`` is below ``reference`` in the primary metric, the largest loss first."""
    found = {name: (group, group.differences[reference][hop][evaluation.primary]) for name, group in evaluation.slices.items()}
    lost = [Harm(name, group.users, d, d.high < 0) for name, (group, d) in found.items() if d.mean < 0]
    return sorted(lost, key=lambda one: one.difference.mean)
