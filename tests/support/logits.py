"""Random logits, and soft targets made of them, for the tests of losses."""

import math

import torch

from distill.losses.partition import StudentLogits, split_logits

TEMPERATURES = [0.25, 0.5, 0.7, 1.0, 1.5, 2.0, 2.7, 3.0, 4.0]  # one exponential or two, sharper or flatter


def logits(seed: int, rows: int = 5, items: int = 12) -> torch.Tensor:
    """Random logits, float32 [rows, items]."""
    return torch.randn(rows, items, generator=torch.Generator().manual_seed(seed)) * 2


def targets_for(scores: torch.Tensor) -> torch.Tensor:
    """A true item for each row, int64 [rows], 1..N."""
    return 1 + torch.arange(len(scores)) * 3 % scores.shape[1]


def soft_targets(teacher: torch.Tensor, n: int, temperature: float = 1.0):
    """A teacher's top n items (1..N), their logits, and the logsumexp of the other logits / T."""
    best, items = teacher.topk(n, dim=1)
    rest = [
        math.log(sum(math.exp(v / temperature) for i, v in enumerate(row) if i not in top) or math.exp(-700))
        for row, top in zip(teacher.tolist(), items.tolist(), strict=True)
    ]
    return items + 1, best, torch.tensor(rest)


def top_of(scores: torch.Tensor, teacher: torch.Tensor, n: int) -> tuple[StudentLogits, torch.Tensor]:
    """The student's logits of the teacher's top n items, and the teacher's own."""
    items, best, _ = soft_targets(teacher, n)
    return split_logits(scores, targets_for(scores), items), best
