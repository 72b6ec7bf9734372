"""Loss ``hint``: the teacher's user vectors through a projection (FitNets, Romero et al. 2014, arXiv:1412.6550)."""

from torch import Tensor, nn

from distill.losses._base import LossSetup, VectorLoss


class HintLoss(VectorLoss):
    """The teacher's user vectors through a projection (FitNets, Romero et al. 2014)."""

    name = "hint"

    def state(self, setup: LossSetup) -> nn.Linear:
        """See ``VectorLoss``; the projection of the student's user vectors into the teacher's space."""
        assert setup.teacher_size is not None
        return nn.Linear(setup.student_size, setup.teacher_size)

    def value(self, student: Tensor, teacher: Tensor, trust: Tensor, state: nn.Module) -> Tensor:
        """See ``VectorLoss``."""
        return (hint(state(student), teacher) * trust).sum()


def hint(projected: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference to the teacher's user vectors (hints of FitNets, Romero et al. 2014, arXiv:1412.6550).

    The projection is a parameter of the training, so the caller holds and applies it. The paper sums and halves; the mean
    keeps the size independent of d.

    Args:
        projected: float32 [M, d], the student's user vectors after a linear map into the teacher's space.
        teacher: float32 [M, d].

    Returns:
        float32 [M], reduction: none (mean over coordinates).
    """
    return (projected - teacher).square().mean(dim=1)
