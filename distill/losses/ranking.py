"""Loss ``ranking``: listwise ranking of the teacher's best items (Kang et al. 2020, arXiv:2012.04357)."""

import torch
from torch import Tensor, nn

from distill.losses._base import LogitLoss, TeacherLogits
from distill.losses.partition import StudentLogits
from distilrec.config.section import Positive


class RankingLoss(LogitLoss):
    """Listwise ranking of the teacher's best items (DE-RRD, Kang et al. 2020)."""

    name = "ranking"

    depth: Positive = 20
    """Best items whose order is learned; at most ``targets.top_n``."""

    def values(self, student: StudentLogits, teacher: TeacherLogits, state: nn.Module) -> Tensor:  # noqa: ARG002
        """See ``LogitLoss``."""
        return listwise_ranking(student.top, student.rest, min(self.depth, student.top.shape[1]))


def listwise_ranking(top: Tensor, rest: Tensor, depth: int) -> Tensor:
    """Negative log-likelihood of the teacher's order of its best K items, all others one set below them (RRD, arXiv:2012.04357).

    Relaxed permutation probability of DE-RRD (Kang et al. 2020), with s the student's logits and i_1 .. i_K the teacher's order:

        -1/K * sum_k [ s(i_k) - log( sum_{l >= k} exp s(i_l) + sum_{others} exp s ) ]

    The order among the others does not matter. RRD samples K interesting items by rank and L uninteresting ones; here
    the K are the best and the others are the whole remaining catalogue. 1/K keeps the size independent of K.

    Args:
        top: float32 [M, n], the student's logits of the teacher's top n items, best first.
        rest: float32 [M], logsumexp of the student's other logits.
        depth: K, 1..n.

    Returns:
        float32 [M], reduction: none (mean over the K places).
    """
    others = torch.cat([top[:, depth:], rest[:, None]], dim=1).logsumexp(dim=1, keepdim=True)
    from_the_end = torch.cat([others, top[:, :depth].flip(1)], dim=1).logcumsumexp(dim=1)
    return (from_the_end[:, 1:].sum(dim=1) - top[:, :depth].sum(dim=1)) / depth
