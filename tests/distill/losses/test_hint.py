"""The loss hint against a second, naive implementation in plain Python."""

import torch

from distill.losses.hint import hint


def test_hint_equals_the_naive_one_and_is_zero_at_the_teacher():
    student, teacher = (torch.randn(6, 4, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    rows = zip(student.tolist(), teacher.tolist(), strict=True)
    expected = [sum((a - b) ** 2 for a, b in zip(mine, other, strict=True)) / 4 for mine, other in rows]
    torch.testing.assert_close(hint(student, teacher), torch.tensor(expected))
    assert hint(teacher, teacher).tolist() == [0] * 6
