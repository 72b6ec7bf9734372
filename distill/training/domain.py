"""Weights of training examples from other domains, by a density ratio that a small classifier estimates.

The ratio of two densities is p / (1 - p) of a classifier that tells their samples from each other, where both count alike (Bickel,
Brueckner and Scheffer 2007; Sugiyama, Suzuki and Kanamori 2012). Weighting by it is importance weighting under covariate shift
(Shimodaira 2000); that examples of the target keep their weight is from Jiang and Zhai (2007).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distilrec.config import DomainConfig
from distilrec.core.errors import DataError
from distilrec.data.attributes import Attributes
from distilrec.data.dataset import Dataset

MIN_USERS = 20
"""Smallest number of users on either side."""

_PENALTIES = (1e-4, 1e-3, 1e-2)
"""Strengths of the classifier's L2 penalty; the one with the smallest loss on users it has not seen is taken."""
_STEPS = 100
_LEARNING_RATE = 0.1


@dataclass(frozen=True)
class DomainWeights:
    """Weights of all users' training examples."""

    of_user: NDArray[np.float32]
    """float32 [users]: 1 for users of the target; for all others with a mean of 1."""
    target_users: int
    other_users: int
    auc: float
    """Area under the ROC curve of the classifier on users it has not seen; 0.5 where both domains look alike."""
    effective_users: float
    """Number of equally weighted other users that would be as informative, (sum of weights)^2 / sum of squares (Kish 1965)."""

    def of_examples(self, dataset: Dataset) -> Tensor:
        """The weight of each flat position, float32 [interactions]."""
        return torch.from_numpy(np.repeat(self.of_user, np.diff(dataset.offsets)))

    def facts(self) -> dict[str, float]:
        """What a manifest says of the weights."""
        return {
            "target_users": self.target_users,
            "other_users": self.other_users,
            "classifier_auc": round(self.auc, 4),
            "effective_other_users": round(self.effective_users, 1),
        }


def domain_weights(dataset: Dataset, attributes: Attributes, config: DomainConfig, seed: int) -> DomainWeights:
    """Weights by the ratio of the target's density to that of all other users, over the items of a training history.

    Args:
        dataset: Sequences and splits; only training parts are read.
        attributes: Attributes of all users.
        config: Target, and the largest weight.
        seed: Random seed of the two halves of the users, of which each is judged by a classifier that learned from the other.

    Raises:
        DataError: the data has no such attribute, or fewer than ``MIN_USERS`` users with a training part are on one side.
    """
    if config.attribute not in attributes:
        raise DataError(
            f"student.domain: found no attribute {config.attribute!r} of users, expected one of {', '.join(attributes) or 'none'}"
        )
    is_target = np.array(attributes[config.attribute]) == config.target
    users = np.flatnonzero(dataset.validation_start > 0)
    of_target, others = int(is_target[users].sum()), int((~is_target[users]).sum())
    if min(of_target, others) < MIN_USERS:
        raise DataError(
            f"student.domain: found {of_target} users whose {config.attribute} is {config.target!r} and {others} others, expected"
            f" at least {MIN_USERS} of each to tell them apart by"
        )
    histories = [torch.from_numpy(dataset.sequence(user)[: dataset.validation_start[user]].astype(np.int64)) for user in users]
    half = np.random.default_rng(seed).permutation(len(users)) % 2
    logits = _judged_by_the_other_half(histories, is_target[users], half, dataset.item_count)
    limit = np.log(config.largest_weight)
    weights = np.ones(dataset.user_count, np.float32)
    ratio = np.exp(np.clip(logits, -limit, limit))
    other = ~is_target[users]
    weights[users[other]] = ratio[other] / ratio[other].mean()
    kept = weights[users[other]].astype(np.float64)
    return DomainWeights(weights, of_target, others, auc(logits, is_target[users]), float(kept.sum() ** 2 / (kept**2).sum()))


def auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Probability that a random positive has a higher score than a random negative; ties count half (Hanley and McNeil 1982)."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives, negatives = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _judged_by_the_other_half(
    histories: list[Tensor], is_target: NDArray[np.bool_], half: NDArray[np.int64], item_count: int
) -> NDArray[np.float64]:
    """Log-odds of the target for each user, float64 [users], by a classifier that has not learned from that user."""
    best: tuple[float, Tensor] | None = None
    labels = torch.from_numpy(is_target.astype(np.float32))
    for penalty in _PENALTIES:
        logits = torch.zeros(len(histories))
        for which in (0, 1):
            learned, judged = np.flatnonzero(half == which), np.flatnonzero(half != which)
            model = _fit([histories[place] for place in learned], labels[learned], item_count, penalty)
            with torch.no_grad():
                logits[judged] = _logits(model, [histories[place] for place in judged])
        loss = float(_balanced_loss(logits, labels))
        if best is None or loss < best[0]:
            best = (loss, logits)
    assert best is not None
    return _calibrated(best[1], labels)


def _calibrated(logits: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """Log-odds stretched and shifted to fit the labels (Platt 1999), because the penalty has shrunk them. float64 [users]."""
    line = torch.tensor([1.0, 0.0], requires_grad=True)
    optimizer = torch.optim.LBFGS([line], max_iter=50)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = _balanced_loss(line[0] * logits + line[1], labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return (line[0] * logits + line[1]).detach().numpy().astype(np.float64)


def _fit(histories: list[Tensor], labels: Tensor, item_count: int, penalty: float) -> nn.EmbeddingBag:
    """Logistic regression on the items of a history, each counted by its share; the row of padding is the bias."""
    model = nn.EmbeddingBag(item_count + 1, 1, mode="sum")
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.Adam(model.parameters(), _LEARNING_RATE)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        loss = _balanced_loss(_logits(model, histories), labels) + penalty * model.weight[1:].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model


def _logits(model: nn.EmbeddingBag, histories: list[Tensor]) -> Tensor:
    """Log-odds of the target for each history, float32 [users]."""
    lengths = torch.tensor([len(history) for history in histories])
    offsets = lengths.cumsum(0) - lengths
    shares = torch.repeat_interleave(1 / lengths, lengths)
    scores: Tensor = model(torch.cat(histories), offsets, per_sample_weights=shares)[:, 0]
    return scores + model.weight[0, 0]


def _balanced_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in which both classes count alike, so that the odds are the ratio of the densities."""
    weights = torch.where(labels > 0, 0.5 / labels.sum(), 0.5 / (1 - labels).sum())
    return nn.functional.binary_cross_entropy_with_logits(logits, labels, weights, reduction="sum")
