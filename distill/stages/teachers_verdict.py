"""Stage ``teachers-verdict``: judge the teachers and their mixture on validation users, before a student learns from them."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.data.mixture_weights import write_weights
from distill.models.runner import TorchRunner
from distill.models.students.build import load_student
from distill.models.teachers.load import load_teacher
from distill.training.mixture import CandidateScores, choose_teachers, fit_mixture, mixture_of, score_candidates
from distilrec.config import Config, judged_with, spec_of_run
from distilrec.config.section import declarations_of
from distilrec.core.manifest import Manifest
from distilrec.core.stage import Inputs, run_stage
from distilrec.data import stage as data_stage
from distilrec.data.dataset import HeldOut, held_out
from distilrec.evaluation.bootstrap import Difference, difference_of, resampled_means
from distilrec.evaluation.metrics import Floats, ndcg
from distilrec.evaluation.ranking import PRIMARY_K, recommend_all

logger = logging.getLogger(__name__)

_MOST_USERS = 5000
"""Validation users that teachers are judged by; more would change the weights by less than the prior does."""

_FEWEST_USERS = 100
"""Validation users that a teacher of lists must have lists for, or it is not judged."""

_BATCH_SIZE = 64


def run(config: Config, inputs: Inputs, out_dir: Path, *, weights: dict[str, float], fixed: bool) -> Manifest:
    """Judge teachers and their mixture. Inputs: data, undistilled (the student without a teacher), and each teacher by its name.

    Args:
        config: Settings of the run.
        inputs: Finished folders.
        out_dir: Folder of the finished stage.
        weights: Teachers by name, and the weight of each in the mixture.
        fixed: Whether the weights are the user's. If not, better ones are found here.
    """

    def work(folder: Path, _scratch: Path) -> dict[str, Any]:
        findings = _find(config, inputs, weights, fixed=fixed)
        write_weights(folder, findings["weights"])
        logger.info("teachers-verdict: %s", findings["reason"])
        return findings

    return run_stage(
        "teachers-verdict",
        settings={
            "weights": weights,
            "fixed": fixed,
            "history_length": config.history_length,
            "exclude_length": config.export.exclude_length,
            **judged_with(config),
        },
        seed=config.seed,
        inputs=inputs,
        out_dir=out_dir,
        work=work,
        declarations=[declared for name in weights for declared in declarations_of(config.teachers[name])],
    )


def _find(config: Config, inputs: Inputs, weights: dict[str, float], *, fixed: bool) -> dict[str, Any]:
    """Figures, weights and the reason for them; arguments as in ``run``."""
    dataset, _ = data_stage.load(inputs["data"])
    spec = spec_of_run(config, dataset.item_count, PRIMARY_K)
    users = held_out(dataset, "validation", spec)
    names, scored = _judged(config, inputs, list(weights), users)
    others = [name for name in weights if name not in names]
    equal = dict.fromkeys(weights, 1 / len(weights))
    if not names:
        return {"weights": weights if fixed else equal, "reason": _no_judgement(others)}
    users = _some(users, scored, config.seed)
    teachers = [load_teacher(config, name, inputs[name], dataset.item_count) for name in names]
    student = load_student(config, inputs["undistilled"], dataset.item_count)
    alone, _ = recommend_all(TorchRunner(student, spec), users, _BATCH_SIZE, "student, no teacher")
    scores = score_candidates(teachers, users, config.seed)
    given = torch.tensor([weights[name] for name in names]) if fixed else None
    findings = _judge(names, scores, users.truth, ndcg(alone, users.truth, PRIMARY_K), given)
    if others:
        found = {name: weight * len(names) / len(weights) for name, weight in findings["weights"].items()}
        kept = {name: equal[name] for name in others}
        findings |= {"weights": found | kept, "reason": f"{findings['reason']}; {_no_judgement(others)}"}
    return findings | ({"weights": weights} if fixed else {})


def _judged(config: Config, inputs: Inputs, names: Sequence[str], users: HeldOut) -> tuple[list[str], NDArray[np.bool_]]:
    """Names of the teachers that can be judged, and the users whom all of these can score, bool [U].

    A teacher that has only lists is judged where it has lists for at least ``_FEWEST_USERS`` of the users.
    """
    listed = {name: ~config.teachers[name].unlisted(inputs[name], users.history) for name in names}
    fewest = min(_FEWEST_USERS, len(users.users))
    judged = [name for name in names if listed[name].sum() >= max(fewest, 1)]
    scored = np.logical_and.reduce([listed[name] for name in judged]) if judged else np.zeros(len(users.users), np.bool_)
    return (judged, scored) if scored.sum() >= fewest else ([], scored)


def _some(users: HeldOut, scored: NDArray[np.bool_], seed: int) -> HeldOut:
    """At most ``_MOST_USERS`` of the users marked in ``scored``, drawn at random, in their order."""
    chosen = np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(scored))[:_MOST_USERS])
    return users.rows(chosen)


def _no_judgement(names: Sequence[str]) -> str:
    return f"{', '.join(names)}: not judged, as there are too few lists for validation users"


def _judge(
    names: Sequence[str], scores: CandidateScores, truth: NDArray[np.int32], alone: Floats, weights: Tensor | None
) -> dict[str, Any]:
    """Figures, weights and the reason for them.

    Args:
        names: Names of the T teachers.
        scores: Their scores for U validation users.
        truth: Right answers of these users, int32 [U, R], padded with 0.
        alone: NDCG@10 of each user by the student without a teacher, float64 [U].
        weights: The user's weights, float32 [T]; None to find weights.
    """
    each = {name: fit_mixture(scores, truth, [place]) for place, name in enumerate(names)}
    mixture, left_out = choose_teachers(scores, truth) if weights is None else (mixture_of(scores, truth, weights), [])
    difference = _difference(mixture.ndcg, alone)
    findings: dict[str, Any] = {
        "users": len(truth),
        "ndcg@10": {name: float(one.ndcg.mean()) for name, one in each.items()},
        "mixture_ndcg@10": float(mixture.ndcg.mean()),
        "undistilled_ndcg@10": float(alone.mean()),
        "difference": [difference.mean, difference.low, difference.high],
        "temperatures": {name: 1 / float(one.exponents) for name, one in each.items()},
        "weights": {names[place]: float(weight) for place, weight in zip(mixture.teachers, mixture.exponents, strict=True)},
        "left_out": {names[place]: [with_it, without] for place, with_it, without in left_out},
    }
    return findings | {"reason": _reason(findings)}


def _difference(values: Floats, others: Floats) -> Difference:
    """Difference of two means over the same users, float64 [U] each."""
    gap = values - others
    drawn = resampled_means(np.stack([gap, others], axis=1))
    return difference_of(float(gap.mean()), float(others.mean()), drawn[:, 0], drawn[:, 1])


def _reason(findings: Mapping[str, Any]) -> str:
    """The verdict in words."""
    weights, (mean, low, high) = findings["weights"], findings["difference"]
    figures = ", ".join(f"{name} {ndcg:.4f}" for name, ndcg in findings["ndcg@10"].items())
    parts = [f"NDCG@10 on {findings['users']:,} validation users: {figures}"]
    if len(weights) > 1:
        shares = ", ".join(f"{weight:.2f} x {name}" for name, weight in weights.items())
        parts.append(f"their mixture ({shares}) {findings['mixture_ndcg@10']:.4f}")
    parts += [
        f"{name} is left out, because the others rank no worse without it ({without:.4f}) than with it ({with_it:.4f})"
        for name, (with_it, without) in findings["left_out"].items()
    ]
    parts.append(
        f"the student alone {findings['undistilled_ndcg@10']:.4f}, difference {mean:+.4f} (95 % interval {low:+.4f} to {high:+.4f})"
    )
    if mean <= 0:
        parts.append("no mixture of the teachers ranks better than the student alone, so it can learn little from them")
    return "; ".join(parts)
