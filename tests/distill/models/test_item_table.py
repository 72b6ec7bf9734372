"""The item table in its two forms, and the helpers about histories."""

from itertools import product

import pytest
import torch

from distill.models.item_content import KnownOfItems
from distill.models.item_table import ItemTable, is_item, right_aligned

N, D, RANK = 21, 8, 5
ROWS = 24  # N + 1, up to a multiple of 8
POPULARITY = torch.linspace(-1, 1, N)


@pytest.fixture(params=product([None, RANK], [False, True], [False, True], [False, True]))
def table(request):
    rank, text, popularity, folded = request.param
    torch.manual_seed(0)
    items = ItemTable(N, D, KnownOfItems(torch.randn(N, 3), 3) if text else None, POPULARITY if popularity else None, rank)
    if folded:
        items.fold()
    return items


def test_embedding_and_scores_are_those_of_the_whole_matrix(table):
    matrix = table()
    assert matrix.shape == (ROWS, D)
    history, user_vectors = torch.randint(0, N + 1, (4, 3)), torch.randn(5, D)
    torch.testing.assert_close(table.embed(history), matrix[history])
    torch.testing.assert_close(table.scores(user_vectors), user_vectors @ matrix.T)


def test_rank_is_what_the_matrix_has(table):
    assert torch.linalg.matrix_rank(table()) == (D if table.basis is None else RANK)


@pytest.mark.parametrize("rank", [None, RANK])
def test_popularity_is_the_first_coordinate_and_no_other(rank):
    items = ItemTable(N, D, popularity=POPULARITY, rank=rank)
    with torch.no_grad():
        before = items()
        items.learned.mul_(2)
        assert items()[1 : N + 1, 0].tolist() == POPULARITY.tolist()
        torch.testing.assert_close(items()[:, 1:], 2 * before[:, 1:])


def test_low_rank_item_vectors_start_as_large_as_full_ones():
    torch.manual_seed(0)
    assert ItemTable(2000, 64, rank=32)().std().item() == pytest.approx(0.02, rel=0.1)


def test_folded_low_rank_table_stays_two_factors():
    items = ItemTable(N, D, KnownOfItems(torch.randn(N, 3), 3), POPULARITY, RANK)
    items.fold()
    assert sum(parameter.numel() for parameter in items.parameters()) == ROWS * RANK + RANK * D


def test_items_are_moved_to_the_end_in_their_order():
    history = torch.tensor([[3, 0, 9, -1, 0], [0, 0, 1, 2, 3], [0, 0, 0, 0, 0], [N + 1, 5, 4, 3, 2]])
    aligned = right_aligned(history, is_item(history, N))
    assert aligned.tolist() == [[0, 0, 0, 3, 9], [0, 0, 1, 2, 3], [0, 0, 0, 0, 0], [0, 5, 4, 3, 2]]
