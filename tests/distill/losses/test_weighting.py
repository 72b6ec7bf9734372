import math

import pytest
import torch

from distill.losses.weighting import scheduled, teacher_confidence


def test_confidence_falls_with_the_rank_of_the_true_item():
    items = torch.tensor([[7, 3, 5]] * 5)
    found = teacher_confidence(items, torch.tensor([7, 3, 5, 0, 9]))
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([1, 1 / math.log2(3), 0.5, 0, 0])


@pytest.mark.parametrize(
    ("shape", "values"),
    [("linear", [4, 4, 3.25, 2.5, 1, 1]), ("cosine", [4, 4, 4 - 3 * (1 - math.sqrt(0.5)) / 2, 2.5, 1, 1])],
)
def test_schedules_go_from_start_to_end(shape, values):
    found = [scheduled(4.0, 1.0, progress, shape) for progress in (-1, 0, 0.25, 0.5, 1, 2)]
    assert found == pytest.approx(values)
