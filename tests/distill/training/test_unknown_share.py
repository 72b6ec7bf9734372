"""How often items are recommended that nobody has touched."""

import numpy as np
import pytest
import torch

from distill.models.item_content import KnownOfItems
from distill.models.item_table import ItemTable
from distill.models.runner import TorchRunner
from distill.models.students.mlp import MlpStudent
from distill.training.unknown_share import calibrate_unknown
from distilrec.core.specs import RecommenderSpec
from distilrec.data.dataset import Dataset, held_out

N, USERS, LENGTH = 200, 150, 8
SPEC = RecommenderSpec(N, LENGTH, 4, 10)


@pytest.mark.parametrize("rank", [None, 9])
@pytest.mark.parametrize("all_touched", [True, False])
def test_unknown_items_get_their_share_of_the_first_ten(rank, all_touched):
    random = np.random.default_rng(0)
    items = random.integers(1, N // 2, USERS * LENGTH).astype(np.int32)
    ends = np.full(USERS, LENGTH)
    dataset = Dataset(items, np.arange(USERS + 1) * LENGTH, ends - 2, ends - 1, item_count=N)
    torch.manual_seed(0)
    touched = torch.ones(N, dtype=torch.bool) if all_touched else torch.arange(N) < N // 2
    content = KnownOfItems.of(torch.randn(N, 6) * 0.1)
    table = ItemTable(N, 16, content, torch.linspace(-1, 1, N), rank, id_dropout=0.1, touched=touched)
    student = MlpStudent(table, LENGTH, 16, (1.0, 0.5), 0.1).eval()
    shift = calibrate_unknown(student, dataset, SPEC, 0.3, seed=1)
    assert shift != 0
    if all_touched:  # histories then hold unknown items, too, so that the share is only near
        table.touched = torch.nn.functional.pad(torch.from_numpy(~(np.random.default_rng(1).random(N) < 0.1)), (1, 7))[:, None]
        table.touched[1] = False
    users = held_out(dataset, "validation", SPEC)
    found = torch.from_numpy(TorchRunner(student, SPEC).recommend(users.history, users.exclude)[0]).long()
    assert (~table.touched[found, 0]).float().mean().item() == pytest.approx(0.3, abs=0.1 if all_touched else 0.01)
