"""Loss ``relation``: distances and angles between user vectors (RKD, Park et al. 2019, arXiv:1904.05068)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from distill.losses._base import VectorLoss
from distilrec.config.section import Positive

# Squared distance below which vectors are the same: users with equal histories have equal vectors.
COINCIDENT = 1e-12

_ANGLE_WEIGHT = 2
"""Weight of angles relative to distances, as in the paper's experiments."""


class RelationLoss(VectorLoss):
    """Distances and angles between the teacher's user vectors (RKD, Park et al. 2019)."""

    name = "relation"

    distance_rows: Positive = 256
    """Predictions of a batch whose distances are compared; the cost grows with the square."""
    angle_rows: Positive = 32
    """Predictions of a batch whose angles are compared; the cost grows with the cube."""

    def value(self, student: Tensor, teacher: Tensor, trust: Tensor, state: nn.Module) -> Tensor:  # noqa: ARG002
        """See ``VectorLoss``; of some predictions, scaled to all that the teacher has soft targets for."""
        scored = torch.nonzero(trust > 0).flatten()
        near = scored[spread_rows(len(scored), self.distance_rows).to(scored.device)]
        far = scored[spread_rows(len(scored), self.angle_rows).to(scored.device)]
        distance = distance_relation(student[near], teacher[near]).sum() / max(len(near), 1)
        angle = angle_relation(student[far], teacher[far]).sum() / max(len(far), 1)
        return (distance + _ANGLE_WEIGHT * angle) * len(scored)


def distance_relation(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between distances of user vectors (RKD-D, Park et al. 2019, arXiv:1904.05068).

    Distances are divided by their mean over all pairs of the batch, for student and teacher alike, so neither size nor
    dimension needs to match. Costs O(M^2 d): pick rows with ``spread_rows``.

    Args:
        student: float32 [M, d_student].
        teacher: float32 [M, d_teacher].

    Returns:
        float32 [M], reduction: none (mean over the pairs of each vector); zeros if M < 2.
    """
    pairs = max(len(student) - 1, 1)
    losses = functional.smooth_l1_loss(_distances(student), _distances(teacher), reduction="none")
    return losses.sum(dim=1) / pairs  # the diagonal is 0


def angle_relation(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between cosines of the angles in triplets of user vectors (RKD-A, Park et al. 2019, arXiv:1904.05068).

    Costs O(M^3 d) and several buffers of M^3: pick rows with ``spread_rows``. Angles towards a coincident vector count as
    right angles.

    Args:
        student: float32 [M, d_student].
        teacher: float32 [M, d_teacher].

    Returns:
        float32 [M], reduction: none (mean over the angles at each vector); zeros if M < 3.
    """
    count = len(student)
    losses = functional.smooth_l1_loss(_cosines(student), _cosines(teacher), reduction="none")
    # Angles of a direction with itself are no relation.
    losses = losses.masked_fill(torch.eye(count, dtype=torch.bool, device=losses.device), 0)
    return losses.sum(dim=(1, 2)) / max((count - 1) * (count - 2), 1)


def spread_rows(count: int, limit: int) -> Tensor:
    """At most ``limit`` of ``count`` rows as int64, evenly spread, so that prefixes of one sequence seldom meet."""
    kept = min(count, limit)
    return torch.arange(kept) * count // max(kept, 1)


def _distances(vectors: Tensor) -> Tensor:
    """[M, M], divided by the mean over pairs; distance 0 has no gradient."""
    # Products are several times faster than ``cdist``; in double precision, or close vectors would lose their distance.
    double = vectors.double()
    products = double @ double.T
    squares = products.diagonal()[:, None] + products.diagonal() - 2 * products
    apart = squares > COINCIDENT
    distances = torch.where(apart, squares, 1.0).sqrt() * apart
    count = len(vectors)
    mean = distances.sum() / max(count * (count - 1), 1)
    return (distances / mean.clamp(min=COINCIDENT)).to(vectors.dtype)


def _cosines(vectors: Tensor) -> Tensor:
    """Entry [j, i, k] is the cosine of the angle at j between i and k."""
    differences = vectors[None] - vectors[:, None]  # (M, M, d): from the first to the second
    squares = differences.square().sum(dim=2, keepdim=True)
    # Coincident vectors have no direction: left unscaled, their difference is about 0 and its gradient bounded.
    directions = differences * torch.where(squares > COINCIDENT, squares, 1.0).rsqrt()
    return directions @ directions.transpose(1, 2)
