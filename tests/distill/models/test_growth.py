"""A trained student with rows for new items."""

import numpy as np
import pytest
import torch

from distill.models.growth import TABLE, grown_table, neighbour_rows, trainable_student
from distill.models.item_table import ItemTable
from distilrec.config import StudentConfig
from distilrec.data.dataset import Dataset


@pytest.mark.parametrize("rank", [None, 3])
def test_student_goes_on_with_the_scores_of_former_items(rank):
    torch.manual_seed(0)
    settings = StudentConfig.of_kind("mlp").model_copy(update={"embedding_size": 6, "rank": rank, "hidden_size": 8, "dropout": 0.0})
    popularity = torch.linspace(-1, 1, 10)
    former = settings.build(ItemTable(10, 6, None, popularity, rank), 4).eval()
    history = torch.tensor([[0, 3, 7, 2]])
    before = former.score_last(history)
    former.items.fold()
    width = former.items.learned.shape[1] - 1
    state = former.state_dict()
    state |= {TABLE: grown_table(state[TABLE], 10, torch.full((9, width), 0.5))}
    grown = trainable_student(settings, 4, state, 19, torch.cat([popularity, torch.zeros(9)])).eval()
    torch.testing.assert_close(grown.score_last(history)[:, 1:11], before[:, 1:11])
    torch.testing.assert_close(grown.items.learned[11:20], torch.full((9, width), 0.5))


def test_new_item_begins_at_its_neighbours():
    table = torch.arange(12.0).reshape(4, 3)  # padding and 3 items
    items = np.array([1, 4, 2, 5, 5, 3], np.int32)
    dataset = Dataset(items, np.array([0, 3, 6]), np.array([3, 1]), np.array([3, 3]), item_count=5)
    rows = neighbour_rows(table, 3, dataset)
    torch.testing.assert_close(rows[0], table[[1, 2], 1:].mean(dim=0))
    torch.testing.assert_close(rows[1], table[1:, 1:].mean(dim=0))  # the neighbour is held out
