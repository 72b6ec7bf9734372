"""Popularity-stratified ranking against a second, naive implementation in plain Python."""

import math

import pytest
import torch

from distill.losses.stratified import popularity_strata, stratified_ranking


def naive_ranking(scores: list[float], strata: list[int], importance: float) -> float:
    values = []
    for stratum in sorted(set(strata)):
        members = [s for s, group in zip(scores, strata, strict=True) if group == stratum]
        pairs = [(i, j) for i in range(len(members)) for j in range(i + 1, len(members)) if (j - i).bit_count() == 1]
        weights = [math.exp(-(i + 1) / importance) * math.exp(-(j + 1) / importance) for i, j in pairs]
        losses = [math.log(1 + math.exp(members[j] - members[i])) for i, j in pairs]
        if pairs:
            values.append(sum(w * v for w, v in zip(weights, losses, strict=True)) / sum(weights))
    return sum(values) / len(values) if values else 0.0


@pytest.mark.parametrize("count", [1, 2, 3, 9, 40])
@pytest.mark.parametrize("importance", [2.0, 20.0])
def test_stratified_ranking_equals_the_naive_one(count, importance):
    generator = torch.Generator().manual_seed(count)
    top = torch.randn(6, count, generator=generator) * 2
    strata = torch.randint(4, (6, count), generator=generator)
    rows = zip(top.tolist(), strata.tolist(), strict=True)
    expected = torch.tensor([naive_ranking(scores, groups, importance) for scores, groups in rows])
    torch.testing.assert_close(stratified_ranking(top, strata, importance), expected)
    torch.testing.assert_close(stratified_ranking(top + 7, strata, importance), expected, atol=1e-5, rtol=1e-5)


def test_stratified_ranking_says_nothing_about_items_of_different_popularity():
    strata = torch.tensor([[0, 1, 0, 1, 2]])
    top = torch.tensor([[4.0, 1.0, 3.0, 0.0, 9.0]], requires_grad=True)
    values = [stratified_ranking(top + shift * (strata == 1), strata).item() for shift in (0, 50)]
    assert values[0] == pytest.approx(values[1])
    (gradient,) = torch.autograd.grad(stratified_ranking(top, strata).sum(), top)
    assert gradient[0, 4] == 0
    assert (gradient[0, [0, 1]] < 0).all()
    assert (gradient[0, [2, 3]] > 0).all()


def test_stratified_ranking_is_smallest_in_the_teachers_order():
    strata = torch.zeros(1, 8, dtype=torch.int64)
    order = torch.arange(8.0).flip(0)[None] * 20
    assert stratified_ranking(order, strata).item() == pytest.approx(0, abs=1e-6)
    assert stratified_ranking(order.flip(1), strata).item() > 20


@pytest.mark.parametrize("strata", [[[0, 1, 2, 3]], [[1, 1, 1, 1]], [[5, 0, 5, 1]]])
@pytest.mark.parametrize("importance", [0.005, 20.0])
def test_stratified_ranking_has_finite_gradients_for_huge_logits(strata, importance):
    top = torch.tensor([[-1e6, 1e6, 3e5, -2e4]], requires_grad=True)
    value = stratified_ranking(top, torch.tensor(strata), importance)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(top.grad).all()


def test_strata_have_equal_shares_of_the_interactions():
    counts = torch.tensor([1, 40, 1, 20, 10, 1, 10, 20, 0, 17])  # 120 in all
    assert popularity_strata(counts, 3).tolist() == [2, 0, 2, 1, 2, 2, 2, 1, 2, 2]
    assert popularity_strata(counts, 1).tolist() == [0] * 10


def test_strata_are_ordered_by_popularity_and_about_equal_for_many_items():
    counts = (1e5 / torch.arange(1.0, 2001)).long()[torch.randperm(2000, generator=torch.Generator().manual_seed(0))]
    strata = popularity_strata(counts, 5)
    shares = torch.zeros(5, dtype=torch.int64).scatter_add(0, strata, counts) / counts.sum()
    assert ((shares - 0.2).abs() < 0.07).all()
    for group in range(4):
        assert counts[strata == group].min() >= counts[strata == group + 1].max()


def test_strata_stay_in_range_without_interactions_and_beside_a_giant():
    assert popularity_strata(torch.zeros(3, dtype=torch.int64), 4).tolist() == [0, 0, 0]
    assert popularity_strata(torch.tensor([1, 98, 1]), 4).tolist() == [3, 0, 3]
