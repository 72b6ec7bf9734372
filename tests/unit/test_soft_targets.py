import numpy as np
import pytest
import torch

from distill.item_table import ItemTable
from distill.sequences import Windows, training_windows
from distill.soft_targets import SoftTargets, write_targets
from distill.teachers import SequenceTeacher
from distilrec.data.dataset import Dataset

N, L = 10, 4


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("top_n", [3, N, 50])
def test_rows_hold_the_teachers_opinion_of_each_prefix(tmp_path, top_n, temperature):
    torch.manual_seed(0)
    items = np.random.default_rng(0).integers(1, N + 1, 9).astype(np.int32)
    dataset = Dataset(items, np.array([0, 6, 9]), np.array([4, 3]), np.array([5, 3]), N)
    teacher = SequenceTeacher(ItemTable(N, 8), L, layers=1, heads=2, dropout=0.1).eval()
    windows = Windows(items, training_windows(dataset, L, drop_last_prefix=False))
    write_targets(teacher, windows, tmp_path, top_n=top_n, temperature=temperature, batch_size=2)
    arrays = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("items", "logits", "rest")}
    targets = SoftTargets(**arrays, temperature=temperature)

    kept = min(top_n, N)
    assert arrays["items"].shape == (9, kept)
    prefix = 2  # the first user's first three items
    with torch.inference_mode():
        scores = (teacher.encode_all(torch.from_numpy(items[None, :3].astype(np.int64)))[0, -1] @ teacher.items().T)[1 : N + 1]
    soft = targets.read(torch.tensor([prefix]))
    order = scores.argsort(descending=True)
    assert soft.items[0].tolist() == (order[:kept] + 1).tolist()
    torch.testing.assert_close(soft.logits[0], scores[order[:kept]], atol=2e-3, rtol=1e-3)  # stored as float16
    if kept < N:
        expected = (scores[order[kept:]] / temperature).logsumexp(0)
        assert soft.rest.item() == pytest.approx(expected.item(), abs=1e-4)
    else:
        assert soft.rest.item() == -1e4
    assert arrays["items"][5].tolist() == [0] * kept  # a held-out position has no row
