"""Content of items: its projection into item vectors, the drop of learned rows, and what is kept of it on disk."""

import numpy as np
import pytest
import torch

from distill.models.item_content import KnownOfItems, load_projection, save_projection
from distill.models.item_table import ItemTable
from distilrec.data.bags import Bags

N, D, RANK = 11, 8, 5
TOUCHED = torch.arange(N) < 8
BAGS = Bags(np.array([0, 1, 1, 2]), np.array([0, 2, *[3] * 9, 4]), np.array([0.5, 0.5, 1, 1], np.float32), 3)


def known(seed=0):
    torch.manual_seed(seed)
    return KnownOfItems.of(torch.randn(N, 3), [torch.randn(N, 2)], BAGS)


def table(rank=None, **options):
    items = ItemTable(N, D, known(), torch.linspace(-1, 1, N), rank, **options)
    with torch.no_grad():
        if items.unknown is not None:
            items.unknown.normal_()
    return items.eval()


def test_content_is_the_sum_of_the_linear_part_and_the_mean_vector_of_each_category():
    items = table()
    projection = items.content
    values = projection.categories.embedding.weight
    expected = projection.linear(known().dense)
    expected[0] += (values[0] + values[1]) / 2
    expected[1] += values[1]
    expected[N - 1] += values[2]
    torch.testing.assert_close(projection()[1 : N + 1], expected)
    torch.testing.assert_close(items()[1 : N + 1, 1:] - items.learned[1 : N + 1], expected)


@pytest.mark.parametrize("rank", [None, RANK])
def test_untouched_items_are_their_content_and_what_all_unknown_items_share(rank):
    items = table(rank, id_dropout=0.5, touched=TOUCHED)
    rows = items._factor()[1 : N + 1]
    torch.testing.assert_close(rows[8:, 1:], (items.content() + items.unknown)[9 : N + 1])
    assert rows[8:, 0].tolist() == [0, 0, 0]
    torch.testing.assert_close(rows[:8, 1:], (items.content() + items.learned)[1:9])
    assert items.untouched_rows().tolist() == (~TOUCHED).tolist()


def test_ids_are_dropped_in_training_alone_and_the_same_ones_within_a_step():
    items = table(id_dropout=0.5).train()
    torch.manual_seed(1)
    with items.kept():
        first, again = items(), items()
    torch.testing.assert_close(first, again)
    dropped = first[1 : N + 1, 0] == 0
    assert 0 < int(dropped.sum()) < N
    assert not torch.equal(items()[1 : N + 1, 0] == 0, dropped)
    torch.testing.assert_close(first[1 : N + 1][~dropped], items.eval()()[1 : N + 1][~dropped])


def test_saved_projection_gives_the_content_that_is_folded_away(tmp_path):
    items = table(id_dropout=0.1, touched=TOUCHED)
    save_projection(items.content, items.unknown, tmp_path)
    content, unknown, before = items.content()[1 : N + 1], items.unknown.clone(), items()
    items.fold()
    torch.testing.assert_close(items(), before)
    assert [name for name, _ in items.named_parameters()] == ["learned"]
    projection = load_projection(tmp_path)
    torch.testing.assert_close(projection(known()), content)
    torch.testing.assert_close(projection.unknown, unknown)


def test_model_without_content_keeps_nothing_of_it(tmp_path):
    assert load_projection(tmp_path) is None
    assert ItemTable(N, D).untouched_rows() is None
