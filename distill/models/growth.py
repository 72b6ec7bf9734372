"""A trained student as the start of a further training, with rows for new items."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.models.item_table import ItemTable
from distill.models.students._base import Student
from distilrec.config import StudentConfig
from distilrec.core.specs import table_rows
from distilrec.data.dataset import Dataset

TABLE, BASIS, POPULARITY = "items.learned", "items.basis", "items.popularity"
"""Names of the item table's tensors in a student's weights."""


def grown_table(table: Tensor, former_items: int, new_rows: Tensor) -> Tensor:
    """A folded item table with further rows: float32 [rows, 1 + s] and [n, s] -> [rows for N + n items, 1 + s].

    Former items keep their rows, and further ones have no popularity yet.
    """
    items = former_items + len(new_rows)
    grown = torch.zeros(table_rows(items), table.shape[1])
    grown[: former_items + 1] = table[: former_items + 1]
    grown[former_items + 1 : items + 1, 1:] = new_rows
    return grown


def neighbour_rows(table: Tensor, former_items: int, dataset: Dataset) -> Tensor:
    """A row for each new item: the mean of the known items next to it in sequences, or of all items where there is none.

    Args:
        table: float32 [rows, 1 + s], the folded table of the former items.
        former_items: Number of former items.
        dataset: Sequences of all items; held-out events are not read.

    Returns:
        float32 [N - former_items, s].
    """
    known = table[1 : former_items + 1, 1:]
    sums, counts = np.zeros((dataset.item_count - former_items, known.shape[1])), np.zeros(dataset.item_count - former_items)
    for items, others in _adjacent(dataset):
        new = (items > former_items) & (others <= former_items)
        np.add.at(sums, items[new] - former_items - 1, known[torch.from_numpy(others[new] - 1)].numpy())
        np.add.at(counts, items[new] - former_items - 1, 1)
    means = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], known.mean(dim=0).numpy())
    return torch.from_numpy(means).float()


def _adjacent(dataset: Dataset) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Items and the ones next to them in the same training sequence, once in each direction."""
    place = np.arange(len(dataset.items)) - np.repeat(dataset.offsets[:-1], np.diff(dataset.offsets))
    ends = np.repeat(dataset.validation_start, np.diff(dataset.offsets))
    later = np.flatnonzero((place > 0) & (place < ends))
    items, before = dataset.items[later].astype(np.int64), dataset.items[later - 1].astype(np.int64)
    return [(items, before), (before, items)]


def trainable_student(
    settings: StudentConfig, history_length: int, state: dict[str, Tensor], item_count: int, popularity: Tensor
) -> Student:
    """A student that goes on from folded weights.

    Args:
        settings: Settings of the student.
        history_length: L.
        state: Weights as ``save_weights`` wrote them, with a table for N items.
        item_count: N.
        popularity: float32 [N], the fixed coordinate of the item vectors as it is now.
    """
    items = ItemTable(item_count, settings.embedding_size, None, popularity, settings.rank)
    student: Student = settings.build(items, history_length)
    assert items.popularity is not None
    unfolded = state | {TABLE: state[TABLE][:, 1:], POPULARITY: items.popularity}
    if BASIS in state:
        unfolded[BASIS] = state[BASIS][1:, 1:]
    student.load_state_dict(unfolded)
    return student
