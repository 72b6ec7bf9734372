"""Losses over the whole catalogue that never hold all logits at once."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

ChunkLoss = Callable[[Tensor, slice], Tensor]
"""Logits float32 [m, N] of some predictions, and which of the M they are -> their summed loss, a scalar."""

SampleLoss = Callable[[Tensor, Tensor, slice], Tensor]
"""As ``ChunkLoss``, with logits float32 [m, n] of items of each prediction's own between the two."""

_LOGITS_AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 28}
"""On a CPU a chunk stays in the cache, which makes a step of 1,500 predictions over 12,000 items 1.8 times as fast; on a GPU it
bounds memory only."""


def catalogue_loss(user_vectors: Tensor, table: Tensor, loss: ChunkLoss) -> Tensor:
    """Sum of ``loss`` over all predictions, with the gradients that it would have without chunks.

    Args:
        user_vectors: float32 [M, d].
        table: float32 [N, d], the items that are scored.
        loss: differentiable in the logits; called once a chunk, gradients switched on.
    """
    total: Tensor = _InChunks.apply(user_vectors, table, None, lambda logits, _, rows: loss(logits, rows))  # type: ignore[no-untyped-call]
    return total


def sample_loss(user_vectors: Tensor, sample: Tensor, own: Tensor, loss: SampleLoss) -> Tensor:
    """As ``catalogue_loss``, over a sample of the catalogue that all predictions share and items of each prediction's own.

    Args:
        user_vectors: float32 [M, d].
        sample: float32 [C, d], vectors of the items that all predictions share.
        own: float32 [M, n], logits of the items of each prediction's own.
        loss: differentiable in both logits.
    """
    total: Tensor = _InChunks.apply(user_vectors, sample, own, loss)  # type: ignore[no-untyped-call]
    return total


class _InChunks(torch.autograd.Function):
    """Forward takes the gradients along, so that no chunk's logits outlive it."""

    @staticmethod
    def forward(ctx: Any, user_vectors: Tensor, table: Tensor, own: Tensor | None, loss: SampleLoss) -> Tensor:
        device = user_vectors.device.type
        # A softmax over a catalogue wants float32. On a CPU the products take most of the time, and may be of lower precision.
        factors = torch.get_autocast_dtype(device) if device == "cpu" and torch.is_autocast_enabled(device) else torch.float32
        with torch.autocast(device, enabled=False):
            users, items = user_vectors.detach().to(factors), table.detach().to(factors)
            user_gradient, table_gradient = (torch.zeros_like(values, dtype=torch.float32) for values in (users, items))
            own = user_gradient.new_zeros(len(users), 0) if own is None else own.detach()
            own_gradient = torch.zeros_like(own)
            total = user_gradient.new_zeros(())
            step = max(1, _LOGITS_AT_ONCE.get(device, 1 << 20) // len(items))
            for start in range(0, len(users), step):
                rows = slice(start, min(start + step, len(users)))
                logits = (users[rows] @ items.T).float().requires_grad_()
                of_rows = own[rows].requires_grad_()
                with torch.enable_grad():
                    chunk = loss(logits, of_rows, rows)
                    gradient, of_own = torch.autograd.grad(chunk, (logits, of_rows), materialize_grads=True)
                own_gradient[rows] = of_own
                gradient = gradient.to(factors)
                user_gradient[rows] = (gradient @ items).float()
                table_gradient += gradient.T @ users[rows]
                total += chunk.detach()
        ctx.save_for_backward(user_gradient.to(user_vectors.dtype), table_gradient.to(table.dtype), own_gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        user_gradient, table_gradient, own_gradient = ctx.saved_tensors
        of_own = outputs[0] * own_gradient if ctx.needs_input_grad[2] else None
        return outputs[0] * user_gradient, outputs[0] * table_gradient, of_own, None
