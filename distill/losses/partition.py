"""The only part of the losses that reads all N logits; the losses work on the logits that are picked here."""

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from distill.data.indices import columns_of

# Logit of an item that is left out; finite, because with all items in the top n nothing is left and 0 * inf is NaN.
NOWHERE = -1e30
# Exponents for which ``pow`` is a few products instead of a logarithm and an exponential.
CHEAP_POWERS = (0.5, 1, 2, 3)


class StudentLogits(NamedTuple):
    """A student's logits as the losses need them."""

    target: Tensor
    """float32 [M], of the true items."""
    top: Tensor
    """float32 [M, n], of the teacher's top n items, in the teacher's order."""
    rest: Tensor
    """float32 [M]: logsumexp of all other logits."""
    soft_rest: Tensor
    """float32 [M]: logsumexp of all other logits / T."""


def split_logits(logits: Tensor, targets: Tensor, items: Tensor | None = None, temperature: float = 1.0) -> StudentLogits:
    """Pick the true and the teacher's items out of the catalogue and sum up the rest, once for all losses.

    Masses outside the top n are summed and not subtracted from 1, so that they are exact however small they are.
    Costs one exponential of [M, N] and one buffer where T = 1, one and two where T is 1.5, 2, 3, 4 or an inverse of these, else
    two and two. Gradients can be taken once, because the buffer turns into the gradient: a second time raises RuntimeError.

    Args:
        logits: float32 [M, N], over the whole catalogue.
        targets: int64 [M], true items 1..N; 0 where there is none, and the reduction gives weight 0.
        items: int64 [M, n], the teacher's, 1..N, no item twice in a row; the targets alone if left out.
        temperature: T > 0 of ``soft_rest``.
    """
    targets = columns_of(targets)[:, None]
    items = targets if items is None else columns_of(items)
    return StudentLogits(*cast(tuple[Tensor, ...], _Split.apply(logits, targets, items, temperature)))  # type: ignore[no-untyped-call]


class _Split(torch.autograd.Function):
    """Written by hand, because autograd would fill several buffers [M, N], whose page faults cost more than the exponentials."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, items: Tensor, temperature: float) -> tuple[Tensor, ...]:
        target, top = logits.gather(1, targets)[:, 0], logits.gather(1, items)
        if temperature == 1:
            # A softmax is one pass, where the other temperatures need several. The items are put back, as a copy is one more pass.
            logits.scatter_(1, items, NOWHERE)
            peak, shares = logits.amax(dim=1), logits.softmax(dim=1)
            logits.scatter_(1, items, top)
            ctx.save_for_backward(targets, items, shares, None, None, None)
            ctx.temperature = temperature
            rest = peak - shares.amax(dim=1).log()
            return target, top, rest, rest.clone()
        gaps = logits.scatter(1, items, NOWHERE)
        peak = gaps.amax(dim=1)
        gaps.sub_(peak[:, None])
        if temperature > 1:
            gaps.div_(temperature)
        # The flatter of the two distributions comes first; times ``ratio`` it is the sharper one, so nothing overflows.
        power = max(temperature, 1 / temperature) - 1
        ratio = (gaps * power).exp_() if power and power not in CHEAP_POWERS else None
        flat = gaps.exp_()
        if power in CHEAP_POWERS:
            ratio = flat.pow(power)
        sums = flat.sum(dim=1), flat.sum(dim=1) if ratio is None else torch.linalg.vecdot(flat, ratio)
        soft_sum, hard_sum = sums if temperature >= 1 else sums[::-1]
        ctx.save_for_backward(targets, items, flat, ratio, hard_sum, soft_sum)
        ctx.temperature = temperature
        return target, top, peak + hard_sum.log(), peak / temperature + soft_sum.log()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        targets, items, flat, ratio, hard_sum, soft_sum = ctx.saved_tensors
        target, top, rest, soft_rest = gradients
        if ctx.temperature == 1:
            result = flat.mul_((rest + soft_rest)[:, None])
            result.scatter_(1, items, top).scatter_add_(1, targets, target[:, None])
            return result, None, None, None
        factors = (soft_rest / soft_sum / ctx.temperature)[:, None], (rest / hard_sum)[:, None]
        of_flat, of_sharp = factors if ctx.temperature >= 1 else factors[::-1]
        result = flat.mul_(of_flat + of_sharp if ratio is None else ratio.mul_(of_sharp).add_(of_flat))
        result.scatter_(1, items, top).scatter_add_(1, targets, target[:, None])
        return result, None, None, None
