"""Sampled softmax against the full one."""

import math

import pytest
import torch

from distill.losses.negatives import draw_candidates, drawn_items

N = 50


def partition(scores, candidates) -> torch.Tensor:
    """logsumexp over what was drawn. float32 [M]."""
    return (scores[:, candidates.items - 1] + candidates.correction).logsumexp(dim=1)


def test_targets_are_found_again_and_no_item_is_there_twice():
    torch.manual_seed(0)
    targets = torch.randint(1, N + 1, (30,))
    candidates = draw_candidates(targets, N, 25)
    assert candidates.items[candidates.targets - 1].tolist() == targets.tolist()
    assert len(candidates.items.unique()) == len(candidates.items)
    assert candidates.items.min() >= 1
    assert candidates.items.max() <= N


def test_with_the_whole_catalogue_it_is_the_full_cross_entropy():
    torch.manual_seed(0)
    scores, targets = torch.randn(7, N), torch.randint(1, N + 1, (7,))
    candidates = draw_candidates(targets, N, 100 * N)
    assert len(candidates.items) == N
    sampled = torch.nn.functional.cross_entropy(scores[:, candidates.items - 1] + candidates.correction, candidates.targets - 1)
    torch.testing.assert_close(sampled, torch.nn.functional.cross_entropy(scores, targets - 1))


def test_drawn_items_stand_for_all_that_were_not():
    torch.manual_seed(0)
    targets = torch.tensor([3, 3, 8])
    candidates = draw_candidates(targets, N, 10)
    drawn = len(candidates.items) - 2
    assert candidates.correction[:2].tolist() == [0, 0]
    assert candidates.correction[2:].tolist() == pytest.approx([math.log((N - 2) / drawn)] * drawn)


def test_the_expected_partition_is_the_full_one():
    torch.manual_seed(0)
    scores, targets = torch.randn(4, N) * 1.5, torch.tensor([1, 9, 9, 40])
    draws = torch.stack([partition(scores, draw_candidates(targets, N, 12)).exp() for _ in range(6000)])
    error = draws.std(dim=0) / math.sqrt(len(draws))
    assert ((draws.mean(dim=0) - scores.exp().sum(dim=1)).abs() < 4 * error).all()


def test_targets_alone_when_nothing_else_was_drawn():
    candidates = draw_candidates(torch.tensor([1, 1]), 1, 5)
    assert candidates.items.tolist() == [1]
    assert candidates.correction.tolist() == [0]


def test_draws_follow_the_global_seed():
    targets = torch.tensor([1, 2, 3])
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(draw_candidates(targets, N, 10).items.tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_whole_catalogue_is_scored_unless_it_is_large():
    assert drawn_items("auto", 8_191) is None
    assert drawn_items("auto", 8_192) == 1024
    assert drawn_items("all", 10**6) is None
    assert drawn_items(50, 100) == 50
