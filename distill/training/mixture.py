"""Weights of several teachers in their mixture, found on held-out users.

A mixture is the softmax of ``sum_t a_t * log p_t`` with one exponent ``a_t >= 0`` for each teacher t (a logarithmic opinion pool,
Heskes 1998; Hinton 2002 calls it a product of experts). The exponent is the teacher's weight divided by its temperature
(Guo et al. 2017, arXiv:1706.04599), so that fitting the exponents both calibrates the teachers to each other and weighs them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.models.encoders import Scorer
from distilrec.core.progress import progress
from distilrec.core.specs import PADDING
from distilrec.data.dataset import HeldOut
from distilrec.evaluation.metrics import Floats, ndcg
from distilrec.evaluation.ranking import PRIMARY_K

_BEST_ITEMS = 100
"""Items of each teacher that may be in the mixture's list of a user."""

_RANDOM_ITEMS = 100
"""Random items that stand for all others of the catalogue."""

_USERS_AT_ONCE = 64

_PRIOR_USERS = 20.0
"""Users' worth of evidence for calibrated teachers of equal weight. It matters where few users are held out."""


@dataclass(frozen=True)
class CandidateScores:
    """What T teachers think of C items of each of U users: each teacher's best ones, the true one, and random others."""

    items: NDArray[np.int32]
    """int32 [U, C], indices 1..N, no item twice in a row; 0 where a row has fewer."""
    log_probabilities: Tensor
    """float32 [U, C, T], over the whole catalogue."""
    multiplicities: Tensor
    """float32 [U, C]: how many items of the catalogue the item stands for; 0 where there is none."""
    truth: Tensor
    """int64 [U]: column of the item to predict."""

    def of(self, teachers: Sequence[int]) -> "CandidateScores":
        """The same items with the scores of some teachers alone."""
        return CandidateScores(self.items, self.log_probabilities[:, :, list(teachers)], self.multiplicities, self.truth)

    def best(self, exponents: Tensor, k: int) -> NDArray[np.int32]:
        """The mixture's best items for each user. float32 [T] -> int32 [U, k]; 0 where a row has fewer.

        Args:
            exponents: float32 [T].
            k: Length of the lists, at most C.
        """
        scores = (self.log_probabilities @ exponents).masked_fill(self.multiplicities == 0, -torch.inf)
        best, columns = scores.topk(k, dim=1)
        items = np.take_along_axis(self.items, columns.numpy(), axis=1)
        return np.where(np.isneginf(best.numpy()), np.int32(PADDING), items)


@torch.inference_mode()
def score_candidates(teachers: Sequence[Scorer], users: HeldOut, seed: int) -> CandidateScores:
    """Score the items that matter for held-out users with each teacher.

    Args:
        teachers: T teachers of the same catalogue, in evaluation mode.
        users: U users. Where a user has several right answers, one of them is drawn.
        seed: Random seed of the draws of items.
    """
    random = torch.Generator().manual_seed(seed)
    starts = range(0, len(users.users), _USERS_AT_ONCE)
    parts = []
    for start in progress(starts, desc="scoring teachers", unit="batch", leave=False):
        rows = slice(start, start + _USERS_AT_ONCE)
        history = torch.from_numpy(users.history[rows]).long()
        seen = torch.from_numpy(users.exclude[rows]).long()
        if "repeats" not in users.choices:
            seen = torch.cat([history, seen], dim=1)
        scores = [teacher.score_last(history)[:, 1 : teacher.item_count + 1].log_softmax(dim=1) for teacher in teachers]
        parts.append(_candidates(torch.stack(scores, dim=2), seen, _drawn(users.truth[rows], random), random))
    return CandidateScores(
        np.concatenate([part.items for part in parts]),
        torch.cat([part.log_probabilities for part in parts]),
        torch.cat([part.multiplicities for part in parts]),
        torch.cat([part.truth for part in parts]),
    )


def _drawn(truth: NDArray[np.int32], random: torch.Generator) -> Tensor:
    """One of the right answers of each user. int32 [b, R], padded with 0 -> int64 [b]."""
    answers = torch.from_numpy(truth).long()
    chosen = torch.multinomial((answers != PADDING).float(), 1, generator=random)
    return answers.gather(1, chosen)[:, 0]


def _candidates(log_probabilities: Tensor, seen: Tensor, truth: Tensor, random: torch.Generator) -> CandidateScores:
    """Candidates of b users.

    Args:
        log_probabilities: float32 [b, N, T].
        seen: int64 [b, S], items that are not recommended, padded with 0.
        truth: int64 [b], the items to predict.
        random: Draws the items that stand for all others.
    """
    users, item_count, teachers = log_probabilities.shape
    unseen = torch.ones(users, item_count + 1).scatter_(1, seen, 0.0)[:, 1:]
    chosen = torch.zeros(users, item_count).scatter_(1, truth[:, None] - 1, 1.0)
    for teacher in range(teachers):
        ranked = log_probabilities[:, :, teacher].masked_fill(unseen == 0, -torch.inf)
        chosen.scatter_(1, ranked.topk(min(_BEST_ITEMS, item_count), dim=1).indices, 1.0)
    chosen *= unseen
    others = torch.zeros(users, item_count)
    others[:, torch.randperm(item_count, generator=random)[:_RANDOM_ITEMS]] = 1.0
    others *= unseen * (1 - chosen)
    left = (unseen - chosen).sum(dim=1, keepdim=True)
    multiplicities = chosen + others * left / others.sum(dim=1, keepdim=True).clamp(min=1)
    columns = min(teachers * _BEST_ITEMS + _RANDOM_ITEMS + 1, item_count)
    multiplicities, indices = multiplicities.topk(columns, dim=1)
    return CandidateScores(
        torch.where(multiplicities > 0, indices + 1, PADDING).int().numpy(),
        log_probabilities.gather(1, indices[:, :, None].expand(-1, -1, teachers)),
        multiplicities,
        (indices == truth[:, None] - 1).int().argmax(dim=1),
    )


def fit_exponents(scores: CandidateScores) -> Tensor:
    """Exponents of the mixture under which the users' true items are most likely, float32 [T].

    Each teacher is first calibrated by itself. The fit then starts from calibrated teachers of equal weight and is drawn to them
    (``_PRIOR_USERS``), the less the more users there are. The likelihood is concave in the exponents, which are few.

    Args:
        scores: Scores of T teachers.
    """
    teachers = scores.log_probabilities.shape[2]
    alone = torch.cat([_fitted(scores.of([teacher]), torch.ones(1)) for teacher in range(teachers)])
    return alone if teachers == 1 else _fitted(scores, alone / teachers)


def _fitted(scores: CandidateScores, start: Tensor) -> Tensor:
    """Exponents of the highest likelihood, float32 [T]; a prior on their logarithms draws them to ``start``."""
    users = len(scores.truth)
    values, sizes = scores.log_probabilities, scores.multiplicities.log()
    true = values[torch.arange(users), scores.truth]
    center = start.log()
    logarithms = center.clone().requires_grad_()
    solver = torch.optim.LBFGS([logarithms], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        exponents = logarithms.exp()
        likelihood = true @ exponents - (values @ exponents + sizes).logsumexp(dim=1)
        value = -likelihood.mean() + _PRIOR_USERS / users * (logarithms - center).square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    return logarithms.detach().exp()


@dataclass(frozen=True)
class Mixture:
    """Teachers that are mixed, by their positions, and what their lists are worth."""

    teachers: tuple[int, ...]
    exponents: Tensor
    """float32 [teachers]."""
    ndcg: Floats
    """float64 [U]: NDCG@10 of each user."""


def fit_mixture(scores: CandidateScores, truth: NDArray[np.int32], teachers: Sequence[int]) -> Mixture:
    """The mixture of some teachers, with its ranking of the same users.

    Args:
        scores: Scores of all teachers.
        truth: Right answers of the U users, int32 [U, R], padded with 0.
        teachers: Positions of the teachers that are mixed.
    """
    exponents = torch.zeros(scores.log_probabilities.shape[2])
    exponents[list(teachers)] = fit_exponents(scores.of(teachers))
    return mixture_of(scores, truth, exponents)


def mixture_of(scores: CandidateScores, truth: NDArray[np.int32], exponents: Tensor) -> Mixture:
    """The mixture of the teachers with these exponents, float32 [T]; those with 0 are not in it."""
    used = exponents.nonzero()[:, 0].tolist()
    best = scores.of(used).best(exponents[used], PRIMARY_K)
    return Mixture(tuple(used), exponents[used], ndcg(best, truth, PRIMARY_K))


def choose_teachers(scores: CandidateScores, truth: NDArray[np.int32]) -> tuple[Mixture, list[tuple[int, float, float]]]:
    """Leave out one teacher after another as long as the mixture of the others ranks no worse without it.

    Args:
        scores: Scores of all teachers.
        truth: Right answers of the U users, int32 [U, R], padded with 0.

    Returns:
        The mixture of the teachers that stay; for each other one, its position and the mean NDCG@10 with and without it.
    """
    kept = fit_mixture(scores, truth, range(scores.log_probabilities.shape[2]))
    left_out = []
    while len(kept.teachers) > 1:
        smaller = [fit_mixture(scores, truth, [t for t in kept.teachers if t != teacher]) for teacher in kept.teachers]
        best = max(smaller, key=lambda mixture: float(mixture.ndcg.mean()))
        if best.ndcg.mean() < kept.ndcg.mean():
            break
        (gone,) = set(kept.teachers) - set(best.teachers)
        left_out.append((gone, float(kept.ndcg.mean()), float(best.ndcg.mean())))
        kept = best
    return kept, left_out
