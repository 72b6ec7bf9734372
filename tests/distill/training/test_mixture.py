"""The mixture of teachers: weights that held-out users choose, and teachers that are left out."""

import numpy as np
import pytest
import torch
from torch import Tensor

from distill.models.encoders import Scorer
from distill.training.mixture import CandidateScores, choose_teachers, fit_exponents, fit_mixture, score_candidates
from distilrec.core.specs import table_rows
from distilrec.data.dataset import HeldOut

USERS, ITEMS = 400, 300


class TableTeacher(Scorer):
    """Scores of each user from a table; the user is known by the item that its history ends with."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits, self.item_count = logits, logits.shape[1]

    def score_prefixes(self, history: Tensor, valid: Tensor) -> Tensor:
        raise NotImplementedError

    def score_last(self, history: Tensor) -> Tensor:
        rows = self.logits[history[:, 0]]
        return torch.nn.functional.pad(rows, (1, table_rows(self.item_count) - self.item_count - 1))


@pytest.fixture(scope="module")
def world() -> tuple[HeldOut, Tensor]:
    """Users whose next items are drawn from known probabilities, and the logits of these, float32 [U, N]."""
    random = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(USERS, ITEMS, generator=random)
    logits[:, 0] = -30.0
    truth = torch.multinomial(logits.softmax(dim=1), 1, generator=random) + 1
    history = torch.arange(USERS).int()[:, None]  # the first column names the user, the second is an item that was seen
    history = torch.cat([history % ITEMS, torch.ones_like(history)], dim=1)
    return HeldOut(
        np.arange(USERS), history.numpy(), np.zeros((USERS, 1), np.int32), truth.int().numpy(), unjudged_users=0, truncated_users=0
    ), logits


def scored(world: tuple[HeldOut, Tensor], *tables: Tensor) -> CandidateScores:
    users, _ = world
    users = HeldOut(
        users.users[:ITEMS], users.history[:ITEMS], users.exclude[:ITEMS], users.truth[:ITEMS], unjudged_users=0, truncated_users=0
    )
    return score_candidates([TableTeacher(table[:ITEMS]) for table in tables], users, seed=0)


def test_a_teacher_that_is_too_sure_is_calibrated(world):
    _, logits = world
    overconfident, timid = fit_exponents(scored(world, logits * 4)), fit_exponents(scored(world, logits / 4))
    assert overconfident.item() == pytest.approx(0.25, rel=0.15)
    assert timid.item() == pytest.approx(4.0, rel=0.15)


def test_two_noisy_teachers_are_better_than_one_and_weigh_alike(world):
    users, logits = world
    random = torch.Generator().manual_seed(1)
    noisy = [logits + 2 * torch.randn(logits.shape, generator=random) for _ in range(2)]
    scores = scored(world, noisy[0], noisy[1] * 10)
    mixture, left_out = choose_teachers(scores, users.truth[:ITEMS])
    assert left_out == []
    assert mixture.ndcg.mean() > 1.1 * max(fit_mixture(scores, users.truth[:ITEMS], [t]).ndcg.mean() for t in (0, 1))
    assert mixture.exponents[0].item() == pytest.approx(10 * mixture.exponents[1].item(), rel=0.3)


def test_a_teacher_that_knows_nothing_is_left_out(world):
    users, logits = world
    random = torch.Generator().manual_seed(2)
    nonsense = 5 * torch.randn(logits.shape, generator=random)
    mixture, left_out = choose_teachers(scored(world, logits, nonsense), users.truth[:ITEMS])
    assert mixture.teachers == (0,)
    ((position, with_it, without),) = left_out
    assert position == 1
    assert without >= with_it


def test_seen_items_are_no_candidates_and_lists_hold_no_item_twice(world):
    _, logits = world
    scores = scored(world, logits, -logits)
    best = scores.best(torch.tensor([1.0, 0.0]), 10)
    assert not (best == 1).any()
    assert all(len(set(row)) == 10 for row in best.tolist())
    unseen = logits[:ITEMS].clone()
    unseen[:, 0] = unseen[torch.arange(ITEMS), torch.arange(ITEMS) - 1] = -torch.inf
    unseen[0, -1] = logits[0, -1]
    np.testing.assert_array_equal(best[1:], unseen.topk(10, dim=1).indices.numpy()[1:] + 1)


def test_random_items_stand_for_the_whole_catalogue(world):
    """With every item a candidate, and with some of them as a sample, the same exponent is found."""
    _, logits = world
    few = scored(world, logits)
    assert few.items.shape[1] < ITEMS
    totals = few.multiplicities.sum(dim=1)
    assert ((totals > ITEMS - 2.1) & (totals < ITEMS)).all()  # all but one or two seen items
    assert fit_exponents(few).item() == pytest.approx(1.0, rel=0.15)
