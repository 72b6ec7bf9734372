"""How often items are recommended that nobody has touched: a model that is trained with id dropout ranks them too low.

It knows less of them, so that their scores lie closer together, and the first ranks go to items that it knows well.
"""

import numpy as np
import torch
from torch import Tensor

from distill.models.encoders import Encoder
from distill.models.item_table import ItemTable
from distilrec.core.specs import MASKED_SCORE, RecommenderSpec
from distilrec.data.dataset import Dataset, held_out
from distilrec.evaluation.ranking import PRIMARY_K

_USERS = 1000
_BATCH_SIZE = 64
_SIMULATED = 0.1
"""Share of the items that stand for unknown ones where the catalogue has none."""
_RIDGE = 1e-3
_LARGEST_SHIFT = 20.0
_STEPS = 40


@torch.inference_mode()
def calibrate_unknown(encoder: Encoder, dataset: Dataset, spec: RecommenderSpec, share: float, seed: int) -> float:
    """Shift the vector that unknown items share, so that they get a share of the first ten recommendations of validation users.

    Args:
        encoder: Trained model in evaluation mode, whose item table is not folded yet.
        dataset: The data set.
        spec: Sizes of requests.
        share: Share of the recommendations that items without training interactions get; where there are none, so many of a
            tenth of the items, drawn at random, whose learned rows are hidden.
        seed: Random seed of that choice.

    Returns:
        What was added to their scores, for the average user.
    """
    items = encoder.items
    assert items.unknown is not None
    users = held_out(dataset, "validation", spec, _USERS)
    factor, unknown = _with_unknown_items(items, seed)
    vectors, best = [], []
    for start in range(0, len(users.users), _BATCH_SIZE):
        history, exclude = (torch.from_numpy(array[start : start + _BATCH_SIZE]).long() for array in (users.history, users.exclude))
        vectors.append(items.in_factor_space(encoder.encode_last(history)))
        best.append(_best_scores(vectors[-1] @ factor.T, torch.cat([history, exclude], dim=1), unknown))
    learned = torch.cat(vectors)[:, -len(items.unknown) :]
    direction = _constant_direction(learned)
    offsets = (learned @ direction)[:, None]
    best_known, best_unknown = (torch.cat(part) for part in zip(*best, strict=True))
    low, high = -_LARGEST_SHIFT, _LARGEST_SHIFT
    for _ in range(_STEPS):
        shift = (low + high) / 2
        low, high = (shift, high) if _share(best_known, best_unknown + shift * offsets) < share else (low, shift)
    items.unknown.add_(high * direction)
    return float(high * offsets.mean())


def _with_unknown_items(items: ItemTable, seed: int) -> tuple[Tensor, Tensor]:
    """The table's rows, float32 [N, r], with some unknown items among them, and the mask of these, bool [N]."""
    unknown = items.untouched_rows()
    if unknown is None:
        unknown = torch.from_numpy(np.random.default_rng(seed).random(items.item_count) < _SIMULATED)
        unknown[0] = True  # at least one
    return items.factor_where(~unknown)[1 : items.item_count + 1], unknown


def _constant_direction(vectors: Tensor) -> Tensor:
    """The vector w with v w near 1 for all user vectors v (least squares with a ridge). float32 [U, s] -> [s]."""
    ridge = _RIDGE * len(vectors) * vectors.square().mean() * torch.eye(vectors.shape[1])
    direction: Tensor = torch.linalg.solve(vectors.T @ vectors + ridge, vectors.sum(dim=0))
    return direction


def _best_scores(scores: Tensor, seen: Tensor, unknown: Tensor) -> tuple[Tensor, Tensor]:
    """The best ten scores of known and of unknown items, seen ones left out. float32 [B, N] -> twice [B, at most 10]."""
    left = torch.nn.functional.pad(scores, (1, 0)).scatter(1, seen, MASKED_SCORE)[:, 1:]
    known, others = left[:, ~unknown], left[:, unknown]
    return tuple(part.topk(min(PRIMARY_K, part.shape[1]), dim=1).values for part in (known, others))  # type: ignore[return-value]


def _share(known: Tensor, unknown: Tensor) -> float:
    """Share of the unknown items among the best ten."""
    joined = torch.cat([known, unknown], dim=1)
    best = joined.topk(min(PRIMARY_K, joined.shape[1]), dim=1).indices
    return float((best >= known.shape[1]).float().mean())
