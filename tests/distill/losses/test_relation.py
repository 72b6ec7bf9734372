"""Distances and angles of user vectors against a second, naive implementation in plain Python."""

import math

import pytest
import torch

from distill.losses.relation import angle_relation, distance_relation, spread_rows


def vectors(seed: int, size: int, rows: int = 6) -> torch.Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))


def huber(difference: float) -> float:
    return difference**2 / 2 if abs(difference) < 1 else abs(difference) - 0.5


def naive_distances(rows: list[list[float]]) -> list[list[float]]:
    distances = [[math.dist(a, b) for b in rows] for a in rows]
    mean = sum(map(sum, distances)) / (len(rows) * (len(rows) - 1))
    return [[d / mean for d in row] for row in distances]


def naive_cosine(rows: list[list[float]], i: int, j: int, k: int) -> float:
    a, b = ([x - y for x, y in zip(rows[end], rows[j], strict=True)] for end in (i, k))
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def test_distance_relation_equals_the_naive_one():
    student, teacher = vectors(1, 3), vectors(2, 8) * 3
    student[0] *= 9  # beyond the square part of the Huber loss
    mine, other = naive_distances(student.tolist()), naive_distances(teacher.tolist())
    assert max(abs(mine[i][j] - other[i][j]) for i in range(6) for j in range(6)) > 1
    expected = [sum(huber(mine[i][j] - other[i][j]) for j in range(6) if j != i) / 5 for i in range(6)]
    torch.testing.assert_close(distance_relation(student, teacher), torch.tensor(expected))


def test_angle_relation_equals_the_naive_one():
    student, teacher = vectors(1, 3), vectors(2, 8) * 3
    a, b = student.tolist(), teacher.tolist()
    expected = []
    for j in range(6):
        ends = [(i, k) for i in range(6) for k in range(6) if len({i, j, k}) == 3]
        expected.append(sum(huber(naive_cosine(a, i, j, k) - naive_cosine(b, i, j, k)) for i, k in ends) / len(ends))
    torch.testing.assert_close(angle_relation(student, teacher), torch.tensor(expected))


@pytest.mark.parametrize("relation", [distance_relation, angle_relation])
def test_relations_do_not_change_when_space_is_turned_scaled_and_moved(relation):
    teacher = vectors(2, 5)
    turn = torch.linalg.qr(vectors(3, 5, rows=5))[0]
    torch.testing.assert_close(relation(teacher @ turn * 4 + 100, teacher), torch.zeros(6), atol=1e-6, rtol=0)
    assert (relation(vectors(1, 5), teacher) > 1e-3).all()


def test_distance_relation_tells_close_vectors_apart():
    base = vectors(1, 64, rows=1) * 10
    student, teacher = base + vectors(2, 64) * 1e-3, vectors(2, 64)
    torch.testing.assert_close(distance_relation(student, teacher), torch.zeros(6), atol=1e-5, rtol=0)


@pytest.mark.parametrize("relation", [distance_relation, angle_relation])
@pytest.mark.parametrize("student", [torch.zeros(4, 3), torch.tensor([[1.0, 2, 3], [1, 2, 3], [4, 5, 7], [1, 2, 3.00001]])])
def test_relations_have_bounded_gradients_when_vectors_coincide(relation, student):
    student = student.clone().requires_grad_()
    values = relation(student, vectors(2, 8, rows=4))
    (gradient,) = torch.autograd.grad(values.sum(), student)
    assert torch.isfinite(values).all()
    assert gradient.abs().max() < 1e6


@pytest.mark.parametrize("count", [0, 1, 2])
def test_relations_of_too_few_vectors_are_zero(count):
    assert angle_relation(vectors(1, 3, count), vectors(2, 4, count)).tolist() == [0] * count
    if count < 2:
        assert distance_relation(vectors(1, 3, count), vectors(2, 4, count)).tolist() == [0] * count


def test_rows_are_spread_evenly():
    assert spread_rows(10, 3).tolist() == [0, 3, 6]
    assert spread_rows(3, 10).tolist() == [0, 1, 2]
    assert spread_rows(0, 10).tolist() == []
