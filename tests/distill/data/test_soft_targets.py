import pickle

import numpy as np
import pytest
import torch

from distill.data.sequences import soft_windows
from distill.data.soft_targets import SoftTargets, SoftTargetWriter
from distill.models.item_table import ItemTable
from distill.models.teachers.ensemble import Ensemble
from distill.models.teachers.sequence import SequenceTeacher
from distill.training.teacher_inference import mix_soft_targets, write_soft_targets
from distilrec.config import TargetsConfig
from distilrec.data.dataset import Dataset

N, L = 10, 4
ITEMS = np.random.default_rng(0).integers(1, N + 1, 9).astype(np.int32)
DATASET = Dataset(ITEMS, np.array([0, 6, 9]), np.array([4, 3]), np.array([5, 3]), N)
GRID = (1.0, 2.0, 4.0)


def teacher(seed=0) -> SequenceTeacher:
    torch.manual_seed(seed)
    return SequenceTeacher(ItemTable(N, 8), L, layers=1, heads=2, dropout=0.1).eval()


def ask(folder, model, **settings):
    folder.mkdir(exist_ok=True)
    config = TargetsConfig(**{"top_n": 3, "batch_size": 2, "temperatures": GRID, **settings})
    count = write_soft_targets(model, DATASET, folder, history_length=L, settings=config, seed=0)
    return SoftTargets(folder, config.temperatures), count


@torch.inference_mode()
def scores_after(model, prefix):
    history = torch.from_numpy(np.asarray(prefix, np.int64))[None]
    return (model.encode_all(history)[0, -1] @ model.items().T)[1 : N + 1]


@pytest.mark.parametrize("temperature", GRID)
@pytest.mark.parametrize("top_n", [3, N, 50])
def test_rows_hold_the_teachers_opinion_of_each_prefix(tmp_path, top_n, temperature):
    model = teacher()
    targets, count = ask(tmp_path, model, top_n=top_n)
    kept = min(top_n, N)
    assert count == 7
    assert targets.items.shape == (9, kept)
    scores = scores_after(model, ITEMS[:3])
    soft = targets.read(torch.tensor([2]), temperature)  # the first user's first three items
    order = scores.argsort(descending=True)
    assert soft.items[0].tolist() == (order[:kept] + 1).tolist()
    torch.testing.assert_close(soft.logits[0], scores[order[:kept]] - scores.max(), atol=2e-3, rtol=1e-3)  # stored as float16
    if kept < N:
        expected = ((scores[order[kept:]] - scores.max()) / temperature).logsumexp(0)
        assert soft.rest.item() == pytest.approx(expected.item(), abs=1e-4)
    else:
        assert soft.rest.item() == -1e4
    assert targets.items[5].tolist() == [0] * kept  # a held-out position has no row


@pytest.mark.parametrize("temperature", [1.3, 1.9, 3.0])
def test_rest_between_two_temperatures_is_nearly_exact(tmp_path, temperature):
    model = teacher()
    targets, _ = ask(tmp_path, model)
    scores = scores_after(model, ITEMS[:3])
    others = (scores - scores.max()).sort().values[: N - 3]
    rest = targets.read(torch.tensor([2]), temperature).rest.item()
    assert rest == pytest.approx((others / temperature).logsumexp(0).item(), abs=0.03)


def test_perturbed_copies_are_asked_about_and_have_no_true_items(tmp_path):
    model = teacher()
    targets, count = ask(tmp_path, model, perturbed_copies=2, drop_fraction=0.3)
    real, *copies = soft_windows(targets, DATASET)
    assert len(copies) == 2
    assert real.collate(real.windows).targets.count_nonzero() == 5
    assert count == sum(int(windows.lengths.sum()) for windows in (real, *copies))
    for windows in copies:
        batch = windows.collate(windows.windows)
        assert not batch.targets.any()
        best = targets.read(batch.prefixes).items[:, 0]
        history = batch.history[0][batch.valid[0]]
        last = int(batch.valid[0].sum()) - 1
        assert best[last].item() == scores_after(model, history).argmax().item() + 1


def test_features_are_the_teachers_user_vectors(tmp_path):
    model = teacher()
    targets, _ = ask(tmp_path, model, features=True)
    with torch.inference_mode():
        expected = model.encode_all(torch.from_numpy(ITEMS[None, :3].astype(np.int64)))[0, -1]
    torch.testing.assert_close(targets.read(torch.tensor([2])).features[0], expected, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("weights", [[1.0, 1.0], [3.0, 1.0]])
def test_mixed_caches_are_the_ensembles_own_opinion_where_nothing_is_cut_off(tmp_path, weights):
    members = [teacher(0), teacher(1)]
    caches = [ask(tmp_path / str(i), member, top_n=N)[0] for i, member in enumerate(members)]
    own, _ = ask(tmp_path / "own", Ensemble(members, weights), top_n=5)
    (tmp_path / "mixed").mkdir()
    settings = TargetsConfig(top_n=5, temperatures=GRID)
    assert mix_soft_targets(caches, weights, N, tmp_path / "mixed", settings) == 7
    mixed = SoftTargets(tmp_path / "mixed", GRID)
    rows = [0, 1, 2, 3, 6, 7, 8]
    assert np.array_equal(mixed.items[rows], own.items[rows])
    assert mixed.logits[rows] == pytest.approx(own.logits[rows], abs=5e-3)
    assert mixed.rest[rows] == pytest.approx(own.rest[rows], abs=5e-3)


def test_mixture_shares_a_teachers_rest_among_the_items_it_did_not_name(tmp_path):
    members = [teacher(0), teacher(1)]
    caches = [ask(tmp_path / str(i), member, top_n=8)[0] for i, member in enumerate(members)]
    (tmp_path / "mixed").mkdir()
    mix_soft_targets(caches, [1.0, 1.0], N, tmp_path / "mixed", TargetsConfig(top_n=3, temperatures=GRID))
    expected = torch.zeros(N)
    for member in members:
        log = scores_after(member, ITEMS[:3]).log_softmax(0).clone()
        weakest = log.argsort()[: N - 8]
        log[weakest] = log[weakest].logsumexp(0) - np.log(N - 8)
        expected += log / 2
    found = SoftTargets(tmp_path / "mixed", GRID).items[2]
    assert found.tolist() == (expected.argsort(descending=True)[:3] + 1).tolist()


def test_processes_open_the_files_themselves(tmp_path):
    targets, _ = ask(tmp_path, teacher())
    assert targets.items.any()
    content = pickle.dumps(targets)
    assert len(content) < 1000
    again = pickle.loads(content)
    assert isinstance(again.items, np.memmap)
    assert np.array_equal(again.items, targets.items)


def test_int8_logits_take_half_the_room_and_are_rounded_by_at_most_half_a_step(tmp_path):
    exact, _ = ask(tmp_path / "exact", teacher(), top_n=N)
    coded, _ = ask(tmp_path / "coded", teacher(), top_n=N, logits="int8")
    rows = torch.arange(4)
    expected, found = exact.read(rows), coded.read(rows)
    assert torch.equal(found.items, expected.items)
    steps = -expected.logits[:, -1:] / 255
    assert ((found.logits - expected.logits).abs() <= 0.51 * steps + 1e-3).all()  # 1e-3: float16 of the others
    assert not torch.equal(found.logits, expected.logits)
    sizes = {name: (tmp_path / name / "logits.npy").stat().st_size - 128 for name in ("exact", "coded")}
    assert sizes["exact"] == 2 * sizes["coded"]
    assert (exact.items.dtype, coded.logits.dtype) == (np.uint16, np.uint8)


def test_indices_above_16_bits_are_kept(tmp_path):
    settings = TargetsConfig(top_n=2)
    with SoftTargetWriter(tmp_path, np.zeros(1, np.int32), np.array([[0, 1, 0]]), settings, 70_000) as writer:
        scores = torch.zeros(1, 70_000)
        scores[0, 69_999] = 1.0
        writer.write(np.array([0]), scores)
    assert SoftTargets(tmp_path, settings.temperatures).items[0, 0] == 70_000
