"""What teachers are asked, and what becomes of several teachers' answers."""

import math

import numpy as np
import pytest
import torch

from distill.data.soft_targets import SoftTargets
from distill.models.encoders import Recommender
from distill.models.item_table import ItemTable
from distill.models.runner import TorchRunner
from distill.models.teachers.ease import EaseTeacher
from distill.models.teachers.ensemble import Ensemble
from distill.models.teachers.masked import MaskedTeacher
from distill.models.teachers.prefix_encoder import newest_positions
from distill.models.teachers.sequence import SequenceTeacher
from distill.training.teacher_inference import mix_soft_targets, mixed_log_probabilities, write_soft_targets
from distilrec.config import TargetsConfig
from distilrec.core.specs import RecommenderSpec
from distilrec.data.dataset import Dataset
from distilrec.evaluation.parity import check_parity
from export.graph.onnx import export_onnx
from export.graph.onnx_runner import OnnxRunner

N, L = 12, 4
ITEMS = np.random.default_rng(0).integers(1, N + 1, 11).astype(np.int32)
DATASET = Dataset(ITEMS, np.array([0, 8, 11]), np.array([6, 1]), np.array([7, 2]), N)
ASKABLE = [0, 1, 2, 3, 4, 5, 8]
"""Flat positions of the training parts; windows are 2..5, 0..1 and 8."""


def teachers():
    torch.manual_seed(0)
    neural = SequenceTeacher(ItemTable(N, 8), L, layers=1, heads=2, dropout=0.1)
    neural.items.learned.data *= 50  # opinions, not noise
    weights = torch.randn(N, N).fill_diagonal_(0)
    masked = MaskedTeacher(ItemTable(N, 8), L, layers=1, heads=2, dropout=0.1, mask_fraction=0.2)
    return [model.eval() for model in (neural, EaseTeacher(weights, 0.9, 2.0), masked)]


def ask(teacher, folder, top_n=N, newest=None, **settings) -> SoftTargets:
    folder.mkdir()
    settings = TargetsConfig(top_n=top_n, batch_size=2, **settings)
    write_soft_targets(teacher, DATASET, folder, history_length=L, settings=settings, seed=0, newest=newest)
    return SoftTargets(folder, settings.temperatures)


def log_probabilities(teacher, position) -> torch.Tensor:
    """Of the prefix that ends there, asked alone."""
    begin = max(start for start in (0, 2, 8) if start <= position)
    history = torch.from_numpy(ITEMS[begin : position + 1].astype(np.int64))[None]
    padded = torch.nn.functional.pad(history, (L - history.shape[1], 0))
    with torch.inference_mode():
        return teacher.score_last(padded)[0, 1 : N + 1].log_softmax(dim=0)


def test_newest_positions():
    valid = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    assert newest_positions(valid, 1).long().tolist() == [[0, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 0]]
    assert newest_positions(valid, 3).long().tolist() == [[0, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize(("newest", "asked"), [(None, ASKABLE), (1, [1, 5, 8]), (3, [0, 1, 3, 4, 5, 8])])
def test_only_what_was_asked_has_an_answer(tmp_path, which, newest, asked):
    teacher = teachers()[which]
    cache = ask(teacher, tmp_path / "cache", newest=newest)
    assert np.flatnonzero(cache.items[:, 0]).tolist() == asked
    for position in asked:
        soft = cache.read(torch.tensor([position]))
        expected = log_probabilities(teacher, position)
        torch.testing.assert_close(soft.logits[0].log_softmax(dim=0), expected[soft.items[0] - 1], atol=1e-2, rtol=1e-3)


def test_copies_and_user_vectors_go_along(tmp_path):
    teacher = teachers()[2]
    cache = ask(teacher, tmp_path / "cache", newest=1, perturbed_copies=2, features=True)
    ends = cache.windows[:, 1] - 1
    assert set(cache.windows[:, 2].tolist()) == {0, 1, 2}
    assert np.flatnonzero(cache.items[:, 0]).tolist() == sorted(ends.tolist())
    assert cache.features is not None
    assert np.flatnonzero(np.abs(cache.features).sum(axis=1)).tolist() == sorted(ends.tolist())
    begin, end, _ = cache.windows[0]
    history = torch.from_numpy(cache.sequences[begin:end].astype(np.int64))[None]
    with torch.inference_mode():
        expected = teacher.encode_last(history)[0]
    torch.testing.assert_close(torch.from_numpy(cache.features[end - 1].astype(np.float32)), expected, atol=2e-3, rtol=1e-3)


def test_mixed_caches_of_all_items_are_the_ensembles_own_answer(tmp_path):
    members, weights = teachers(), [1.0, 3.0, 0.5]
    caches = [ask(member, tmp_path / str(place)) for place, member in enumerate(members)]
    ensemble = Ensemble(members, weights).eval()
    mixed = mixed_log_probabilities(caches, weights, torch.tensor(ASKABLE), N).log_softmax(dim=1)
    expected = torch.stack([log_probabilities(ensemble, position) for position in ASKABLE])
    torch.testing.assert_close(mixed, expected, atol=1e-2, rtol=1e-3)  # logits are stored as float16


def test_the_mixture_is_written_like_any_cache(tmp_path):
    members, weights = teachers()[:2], [2.0, 1.0]
    caches = [ask(member, tmp_path / str(place)) for place, member in enumerate(members)]
    (tmp_path / "mixed").mkdir()
    settings = TargetsConfig(top_n=4)
    assert mix_soft_targets(caches, weights, N, tmp_path / "mixed", settings) == len(ASKABLE)
    mixed = SoftTargets(tmp_path / "mixed", settings.temperatures)
    asked_at_once = ask(Ensemble(members, weights).eval(), tmp_path / "ensemble", top_n=4)
    assert mixed.items[ASKABLE].tolist() == asked_at_once.items[ASKABLE].tolist()
    np.testing.assert_allclose(mixed.logits[ASKABLE], asked_at_once.logits[ASKABLE], atol=2e-2)
    np.testing.assert_allclose(mixed.rest[ASKABLE], asked_at_once.rest[ASKABLE], atol=2e-2)
    assert mixed.windows.tolist() == caches[0].windows.tolist()


def test_what_is_outside_the_top_shares_its_rest_evenly(tmp_path):
    teacher = teachers()[1]
    cache = ask(teacher, tmp_path / "cache", top_n=3)
    mixed = mixed_log_probabilities([cache], [7.0], torch.tensor([4]), N)[0]
    expected = log_probabilities(teacher, 4)
    top = expected.topk(3).indices.tolist()
    outside = [item for item in range(N) if item not in top]
    assert mixed[top].tolist() == pytest.approx(expected[top].tolist(), abs=1e-2)
    even = math.log(expected[outside].exp().sum().item() / len(outside))
    assert mixed[outside].tolist() == pytest.approx([even] * len(outside), abs=1e-2)


def test_where_a_teacher_was_not_asked_the_others_decide(tmp_path):
    quick, _, slow = teachers()
    everything, newest = ask(quick, tmp_path / "quick"), ask(slow, tmp_path / "slow", newest=1)
    mixed = mixed_log_probabilities([newest, everything], [5.0, 1.0], torch.tensor([4, 5]), N)
    torch.testing.assert_close(mixed[0].log_softmax(dim=0), log_probabilities(quick, 4), atol=1e-2, rtol=1e-3)
    together = (5 * log_probabilities(slow, 5) + log_probabilities(quick, 5)) / 6
    torch.testing.assert_close(mixed[1], together, atol=1e-2, rtol=1e-3)
    (tmp_path / "mixed").mkdir()
    settings = TargetsConfig(top_n=3)
    assert mix_soft_targets([newest, everything], [5.0, 1.0], N, tmp_path / "mixed", settings) == len(ASKABLE)


def test_what_nobody_was_asked_stays_unknown(tmp_path):
    caches = [ask(member, tmp_path / str(place), newest=1 + place) for place, member in enumerate(teachers()[:2])]
    (tmp_path / "mixed").mkdir()
    settings = TargetsConfig(top_n=3)
    assert mix_soft_targets(caches, [1.0, 1.0], N, tmp_path / "mixed", settings) == 5
    mixed = SoftTargets(tmp_path / "mixed", settings.temperatures)
    assert np.flatnonzero(mixed.items[:, 0]).tolist() == [0, 1, 4, 5, 8]


def test_an_ensemble_by_hand():
    members = teachers()[:2]
    history = torch.tensor([[0, 3, 7, 1]])
    with torch.inference_mode():
        first, second = (member.score_last(history)[0, 1 : N + 1].softmax(dim=0).tolist() for member in members)
        scores = Ensemble(members, [1.0, 3.0]).eval().score_last(history)
    assert scores.shape == (1, 16)
    expected = [0.25 * math.log(p) + 0.75 * math.log(q) for p, q in zip(first, second, strict=True)]
    assert scores[0, 1 : N + 1].tolist() == pytest.approx(expected, rel=1e-4)
    assert not scores[0, [0, 13, 14, 15]].any()
    sizes = [member.parameter_count() for member in members]
    assert Ensemble(members, [1.0, 3.0]).parameter_count() == sum(sizes)


def test_prefixes_of_an_ensemble_are_whole_histories():
    ensemble = Ensemble(teachers(), [1.0, 1.0, 2.0]).eval()
    history = torch.from_numpy(ITEMS[2:6].astype(np.int64))[None]
    with torch.inference_mode():
        scores = ensemble.score_prefixes(history, torch.tensor([[False, True, True, True]]))
    for row, position in enumerate((3, 4, 5)):
        torch.testing.assert_close(scores[row].log_softmax(dim=0), log_probabilities(ensemble, position), atol=1e-4, rtol=1e-4)


@pytest.mark.pipeline
def test_an_exported_ensemble_answers_the_same(tmp_path):
    spec = RecommenderSpec(N, L, 2, N)
    ensemble = Ensemble(teachers(), [1.0, 1.0, 2.0]).eval()
    with torch.no_grad():
        for parameter in ensemble.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # before it has learned, nothing comes of attention
    export_onnx(Recommender(ensemble, spec).eval(), tmp_path / "model.onnx", {})
    rows = [[0, 0, 0, 0], [0, 0, 0, 3], [1, 4, 2, 4], [N + 1, -2, 0, N + 4], [0, 7, N + 1, 0], [5, 0, 0, 2]]
    history, exclude = np.array(rows, np.int32), np.zeros((len(rows), 2), np.int32)
    check_parity(TorchRunner(ensemble, spec), OnnxRunner(tmp_path / "model.onnx", spec), history, exclude)
