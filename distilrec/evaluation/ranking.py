"""Ranking quality of anything that recommends, measured and compared over the same held-out users."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distilrec.core.progress import progress
from distilrec.core.runner import Answer, Runner, chosen_rows
from distilrec.data.dataset import HeldOut
from distilrec.evaluation.bootstrap import Difference, Estimate, difference_of, estimate_of, resampled_means
from distilrec.evaluation.metrics import METRICS, Floats, coverage, popularity
from distilrec.evaluation.slices import Slice

KS = (5, 10, 20)
"""Lengths k of the lists that metrics are computed for."""

PRIMARY_K = 10
"""Cut of the metric that models are chosen and compared by: NDCG@10, as in most papers on sequential recommendation."""

ALL_USERS = "all users"
"""Name of the group of all held-out users."""

_BATCH_SIZE = 64


def recommend_all(runner: Runner, users: HeldOut, batch_size: int, title: str) -> Answer:
    """Answers for all held-out users, in batches.

    Args:
        runner: The model.
        users: Requests of U users.
        batch_size: Users in a batch.
        title: Label of the progress bar.

    Returns:
        Items int32 [U, K] and scores float32 [U, K].
    """
    starts = progress(range(0, len(users.users), batch_size), desc=title, unit="batch", leave=False)
    batches = (slice(start, start + batch_size) for start in starts)
    answers = [runner.recommend(users.history[rows], users.exclude[rows], chosen_rows(users.choices, rows)) for rows in batches]
    return np.concatenate([items for items, _ in answers]), np.concatenate([scores for _, scores in answers])


def ranking_metrics(items: NDArray[np.int32], users: HeldOut, ks: tuple[int, ...] = (PRIMARY_K,)) -> dict[str, float]:
    """Means over users of all metrics, for example {"ndcg@10": 0.12, "hr@10": 0.22, "mrr@10": 0.09}.

    Args:
        items: Recommended items, int32 [U, K].
        users: Users with their right answers.
        ks: Lengths of the lists, each at most K.
    """
    return {f"{name}@{k}": float(metric(items, users.truth, k).mean()) for k in ks for name, metric in METRICS.items()}


def cuts(top_k: int) -> tuple[int, ...]:
    """Those of ``KS`` that lists of ``top_k`` items are long enough for."""
    return tuple(k for k in KS if k <= top_k) or (top_k,)


def primary(ks: Sequence[int]) -> str:
    """The metric that models are compared by: NDCG@10, or that of the longest list where none has ``PRIMARY_K`` items."""
    return f"ndcg@{PRIMARY_K if PRIMARY_K in ks else ks[-1]}"


@dataclass(frozen=True)
class UserMetrics:
    """Metrics of one evaluated model for each user; a row for each of S seeds."""

    values: dict[str, Floats]
    """float64 [S, U] by metric ("ndcg@10", "popularity@10")."""
    coverage: dict[str, Floats]
    """float64 [S] by cut ("coverage@10")."""


def user_metrics(items: NDArray[np.int32], users: HeldOut, counts: NDArray[np.int64], ks: Sequence[int] = KS) -> UserMetrics:
    """Metrics of one model under one seed.

    Args:
        items: Recommended items, int32 [U, K].
        users: Users with their right answers.
        counts: Training interactions of each item, int64 [N + 1].
        ks: Lengths of the lists, each at most K.
    """
    values = {f"{name}@{k}": metric(items, users.truth, k)[None] for name, metric in METRICS.items() for k in ks}
    values |= {f"popularity@{k}": popularity(items, counts, k)[None] for k in ks}
    return UserMetrics(values, {f"coverage@{k}": np.array([coverage(items, len(counts) - 1, k)]) for k in ks})


def join_seeds(of_seeds: Sequence[UserMetrics]) -> UserMetrics:
    """Join the metrics of one model under several seeds, over the same users in the same order."""
    return UserMetrics(
        {name: np.concatenate([one.values[name] for one in of_seeds]) for name in of_seeds[0].values},
        {name: np.concatenate([one.coverage[name] for one in of_seeds]) for name in of_seeds[0].coverage},
    )


@dataclass(frozen=True)
class GroupEvaluation:
    """All models, evaluated over one group of users."""

    meaning: str
    users: int
    estimates: dict[str, dict[str, Estimate]]
    """By names of model and metric."""
    differences: dict[str, dict[str, dict[str, Difference]]]
    """By names of reference, model and metric: the model's mean less the reference's."""


@dataclass(frozen=True)
class Evaluation:
    """All models, evaluated over all held-out users and over each slice of them."""

    primary: str
    """Name of the metric that slices are compared by."""
    everybody: GroupEvaluation
    coverage: dict[str, dict[str, float]]
    """By names of model and metric ("coverage@10"): share of the catalogue that is recommended to at least one user; mean over
    seeds."""
    slices: dict[str, GroupEvaluation]


def evaluate_runners(
    runners: Mapping[str, Runner],
    users: HeldOut,
    counts: NDArray[np.int64],
    slices: Sequence[Slice],
    *,
    references: Sequence[str] = (),
    ks: Sequence[int] = KS,
) -> Evaluation:
    """Run all models for all held-out users, and compare each with the references.

    Args:
        runners: Models by name.
        users: Requests with known answers.
        counts: Training interactions of each item, int64 [N + 1].
        slices: Groups of users that are also evaluated on their own.
        references: Names of the models that all others are compared with.
        ks: Lengths of the lists.
    """
    metrics = {
        name: user_metrics(recommend_all(runner, users, _BATCH_SIZE, name)[0], users, counts, ks)
        for name, runner in runners.items()
    }
    return compare_metrics(metrics, slices, references=references, ks=ks)


def compare_metrics(
    models: Mapping[str, UserMetrics], slices: Sequence[Slice], *, references: Sequence[str] = (), ks: Sequence[int] = KS
) -> Evaluation:
    """Means with intervals, and differences to the references, over all users and over each slice.

    Args:
        models: Metrics of each model by its name, all over the same users.
        slices: Groups of these users.
        references: Names of the models that all others are compared with.
        ks: Lengths of the lists.
    """
    metrics = [f"{name}@{k}" for name in (*METRICS, "popularity") for k in ks]
    main = primary(ks)
    of_slices = [metric for metric in metrics if metric.partition("@")[2] == main.partition("@")[2]]
    everybody = np.ones(next(iter(models.values())).values[main].shape[1], np.bool_)
    return Evaluation(
        main,
        _group(models, Slice(ALL_USERS, "all held-out users", everybody), metrics, references),
        {name: {cut: float(values.mean()) for cut, values in model.coverage.items()} for name, model in models.items()},
        {part.name: _group(models, part, of_slices, references) for part in slices},
    )


def _group(models: Mapping[str, UserMetrics], part: Slice, metrics: Sequence[str], references: Sequence[str]) -> GroupEvaluation:
    """Evaluate one group of users; its users are resampled once, so that all intervals are over the same draws."""
    seeds = {(name, m): model.values[m][:, part.users] for name, model in models.items() for m in metrics}  # [S, U]
    columns: dict[tuple[str, ...], Floats] = {key: values.mean(axis=0) for key, values in seeds.items()}
    # Differences are columns of their own: the difference of two equal models is 0 to the last bit.
    columns |= {(ref, name, m): columns[name, m] - columns[ref, m] for ref in references for name in models for m in metrics}
    means = resampled_means(np.stack(list(columns.values()), axis=1))
    drawn = dict(zip(columns, means.T, strict=True))

    def difference(reference: str, name: str, metric: str) -> Difference:
        key = (reference, name, metric)
        other = (reference, metric)
        return difference_of(float(columns[key].mean()), float(columns[other].mean()), drawn[key], drawn[other])

    return GroupEvaluation(
        part.meaning,
        int(part.users.sum()),
        {name: {m: estimate_of(seeds[name, m], drawn[name, m]) for m in metrics} for name in models},
        {ref: {name: {m: difference(ref, name, m) for m in metrics} for name in models if name != ref} for ref in references},
    )


@dataclass(frozen=True)
class SliceRegression:
    """A slice of users in which a model ranks worse than its reference."""

    slice: str
    users: int
    difference: Difference
    clear: bool
    """Whether the whole interval lies below 0."""


def regressions(evaluation: Evaluation, model: str, reference: str) -> list[SliceRegression]:
    """All slices in which ``model`` is below ``reference`` in the primary metric, the largest loss first."""
    differences = {
        name: (group, group.differences[reference][model][evaluation.primary]) for name, group in evaluation.slices.items()
    }
    worse = [SliceRegression(name, group.users, d, d.high < 0) for name, (group, d) in differences.items() if d.mean < 0]
    return sorted(worse, key=lambda regression: regression.difference.mean)
