"""EASE against a second, naive implementation."""

import numpy as np
import pytest
import torch

from distill.models.encoders import Recommender
from distill.models.teachers.ease import EaseTeacher, EaseTeacherConfig, fit_ease
from distilrec.core.errors import ConfigError
from distilrec.core.specs import RecommenderSpec
from distilrec.data.dataset import Dataset
from export.graph.onnx import export_onnx
from export.graph.onnx_runner import OnnxRunner

N, L2 = 5, 2.0
# Three users; the last items of each are held out, and user 2 had item 4 twice.
DATASET = Dataset(
    np.array([1, 2, 3, 5, 2, 3, 4, 1, 4, 4, 2, 5, 5], np.int32),
    np.array([0, 4, 8, 13]),
    np.array([3, 2, 4]),
    np.array([3, 3, 4]),
    N,
)


def teacher(decay: float = 1.0, scale: float = 1.0) -> EaseTeacher:
    weights = torch.randn(N, N, generator=torch.Generator().manual_seed(0))
    return EaseTeacher(weights.fill_diagonal_(0), decay, scale).eval()


def test_weights_are_the_constrained_least_squares_solution():
    seen = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 1, 0, 1, 1]], float)
    weights = fit_ease(DATASET, L2).double().numpy()
    assert np.diag(weights).tolist() == [0] * N
    for target in range(N):
        # Ridge regression of one item on all others.
        others = [item for item in range(N) if item != target]
        given = seen[:, others]
        solution = np.linalg.solve(given.T @ given + L2 * np.eye(N - 1), given.T @ seen[:, target])
        np.testing.assert_allclose(weights[others, target], solution, atol=1e-6)


def test_decay_by_hand():
    model, weights = teacher(0.5, 10.0), teacher().weights
    history = torch.tensor([[2, 4, 1]])
    by_hand = [weights[1], weights[1] / 2 + weights[3], weights[1] / 4 + weights[3] / 2 + weights[0]]
    scores = model.score_prefixes(history, torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(scores, 10 * torch.stack(by_hand))
    torch.testing.assert_close(model.score_last(torch.tensor([[0, 2, 0, 4, 1]]))[0, 1 : N + 1], 10 * by_hand[2])


@pytest.mark.parametrize("decay", [1.0, 0.7])
def test_scores_of_prefixes_are_those_of_whole_histories(decay):
    torch.manual_seed(0)
    model = teacher(decay, 3.0)
    history = torch.randint(1, N + 1, (4, 6))
    history[1, 4:], history[3, 1:] = 0, 0
    valid = (history > 0) & (torch.rand(4, 6) < 0.7)
    scores = model.score_prefixes(history, valid)
    assert scores.shape == (int(valid.sum()), N)
    for row, (user, end) in enumerate(valid.nonzero().tolist()):
        alone = torch.nn.functional.pad(history[user, : end + 1], (6 - end - 1, 0))[None]
        torch.testing.assert_close(scores[row], model.score_last(alone)[0, 1 : N + 1])


def test_an_empty_history_says_nothing_and_rows_fill_the_table():
    scores = teacher().score_last(torch.zeros(2, 4, dtype=torch.int64))
    assert scores.shape == (2, 8)
    assert not scores.any()


def test_saved_weights_come_back(tmp_path):
    settings = EaseTeacherConfig(l2=L2, decay=0.9, scale=5.0)
    solved = settings.solve(DATASET)
    settings.save(solved, tmp_path)
    loaded = settings.load(tmp_path, N, 4)
    assert torch.equal(loaded.weights, solved.weights)
    assert (loaded.decay, loaded.scale, loaded.item_count) == (0.9, 5.0, N)
    assert loaded.parameter_count() == N * N


def test_a_catalogue_that_is_too_large_is_refused():
    large = Dataset(DATASET.items, DATASET.offsets, DATASET.validation_start, DATASET.test_start, 40_001)
    with pytest.raises(ConfigError, match=r"40,001 items, expected at most 40,000: .* \(6 GB\)"):
        fit_ease(large, L2)


@pytest.mark.pipeline
def test_exported_it_answers_the_same(tmp_path):
    spec = RecommenderSpec(N, 4, 2, 3)
    recommender = Recommender(teacher(0.8), spec).eval()
    export_onnx(recommender, tmp_path / "model.onnx", {})
    history = np.array([[0, 0, 0, 0], [0, 0, 0, 3], [1, 4, 2, 4]], np.int32)
    exclude = np.zeros((3, 2), np.int32)
    items, scores = OnnxRunner(tmp_path / "model.onnx", spec).recommend(history, exclude)
    expected = recommender(torch.from_numpy(history), torch.from_numpy(exclude))
    np.testing.assert_allclose(scores, expected[1].numpy(), rtol=1e-5, atol=1e-6)
    assert items[1:].tolist() == expected[0][1:].tolist()  # an empty history ties all items
