"""What a request chooses, in the graph: every precision answers as brute force in numpy does."""

import numpy as np
import onnx
import pytest
import torch

from distill.models.encoders import Recommender
from distill.models.item_table import ItemTable
from distill.models.runner import TorchRunner
from distill.models.students.mlp import MlpStudent
from distilrec.config import CalibrationConfig
from distilrec.core.specs import MASKED_SCORE, RecommenderSpec
from distilrec.data.item_filters import build_filters
from export.graph.calibration import CalibrationSet, activation_ranges
from export.graph.fp16 import to_fp16
from export.graph.int8 import Form, to_int8
from export.graph.layers import weight_layers
from export.graph.onnx import export_onnx
from export.graph.onnx_runner import OnnxRunner

ITEMS = 403  # not a multiple of 8: the table has filler rows
SPEC = RecommenderSpec(ITEMS, 6, 4, top_k=ITEMS, filter_length=4, allow_length=5, repeats=True, similar=True)
"""K = N: a plain answer holds the scores of all unseen items, from which brute force makes every other answer."""


def catalogue(random):
    """A category that one item in a hundred has, a colour that some lack, and several tags of each item."""
    tags = [[f"tag {tag}" for tag in random.choice(9, random.integers(0, 4), replace=False)] for _ in range(ITEMS)]
    return {
        "category": [["rare"] if item % 100 == 7 else [f"category {item % 5}"] for item in range(ITEMS)],
        "colour": [[] if item % 3 == 0 else [f"colour {random.integers(4)}"] for item in range(ITEMS)],
        "tags": tags,
    }


@pytest.fixture(scope="module")
def filters():
    return build_filters(catalogue(np.random.default_rng(0)))


@pytest.fixture(scope="module")
def runners(filters, tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("graphs")
    student = MlpStudent(ItemTable(ITEMS, 16), SPEC.history_length, 24, (0.5, 0.9), 0.0).eval()
    with torch.no_grad():
        student.items.learned.mul_(20)
    recommender = Recommender(student, SPEC, filters).eval()
    export_onnx(recommender, folder / "fp32.onnx", {})
    model = onnx.load(folder / "fp32.onnx")
    random = np.random.default_rng(1)
    data = CalibrationSet(random.integers(1, ITEMS, (64, 6), dtype=np.int32), np.zeros((64, 4), np.int32), "")
    tensors = sorted({layer.activation for layer in weight_layers(model.graph) if layer.activation})
    ranges = activation_ranges(model, tensors, data, CalibrationConfig())
    onnx.save(to_fp16(model), folder / "fp16.onnx")
    for form in Form:
        onnx.save(to_int8(model, ranges, form), folder / f"int8-{form.value}.onnx")
    graphs = {path.stem: OnnxRunner(path, SPEC) for path in sorted(folder.glob("*.onnx"))}
    return {"torch": TorchRunner(student, SPEC, filters), **graphs}


RUNNERS = ["torch", "fp32", "fp16", "int8-cpu", "int8-tensorrt"]


def expected(scores, history, exclude, fits, allow, *, repeats):
    """Brute force for one request. ``scores`` has those of all items 1..N."""
    wanted = fits[1:].copy()
    if allow.any():
        wanted &= np.isin(np.arange(1, ITEMS + 1), allow)
    banned = exclude if repeats else np.concatenate([history, exclude])
    wanted[[item - 1 for item in banned if 1 <= item <= ITEMS]] = False
    items = np.flatnonzero(wanted) + 1
    return items[np.argsort(-scores[items - 1], kind="stable")]


def check(runner, filters, history, exclude, choices):
    plain_scores = np.full((len(history), ITEMS + 1), np.nan)
    items, scores = runner.recommend(history, exclude * 0, {"repeats": np.ones((len(history), 1), np.int32)})
    np.put_along_axis(plain_scores, items, scores, axis=1)
    assert not np.isnan(plain_scores[:, 1:]).any()
    found_items, found_scores = runner.recommend(history, exclude, choices)
    nothing = np.zeros((len(history), 1), np.int32)
    fits = filters.fits(choices.get("filter", nothing))
    for row in range(len(history)):
        right = expected(
            plain_scores[row, 1:],
            history[row],
            exclude[row],
            fits[row],
            choices.get("allow", nothing)[row],
            repeats=choices.get("repeats", nothing)[row, 0] == 1,
        )
        count = (found_items[row] != 0).sum()
        assert count == len(right)
        assert set(found_items[row, :count]) == set(right)
        assert (found_scores[row, count:] <= MASKED_SCORE / 2).all()
        np.testing.assert_allclose(found_scores[row, :count], plain_scores[row, right], atol=1e-5)  # equal order up to ties


def draw_choices(filters, random, rows):
    """Random choices of each kind, some with none, some with codes and indices that do not exist."""
    some = random.random((rows, 9)) < random.random((rows, 1))
    wanted = np.where(some[:, :4], random.integers(-1, filters.values.count + 2, (rows, 4)), 0)
    allow = np.where(some[:, 4:] & some[:, :1], random.integers(-2, ITEMS + 3, (rows, 5)), 0)
    choices = {"filter": wanted, "allow": allow, "repeats": random.integers(0, 3, (rows, 1))}
    return {name: values.astype(np.int32) for name, values in choices.items()}


@pytest.mark.parametrize("name", RUNNERS)
def test_answer_equals_brute_force_whatever_is_chosen(runners, filters, name):
    random = np.random.default_rng(3)
    for rows in (1, 7, 64):
        history = random.integers(0, ITEMS + 1, (rows, 6), dtype=np.int32)
        exclude = random.integers(-1, ITEMS + 2, (rows, 4), dtype=np.int32)
        for _ in range(4):
            check(runners[name], filters, history, exclude, draw_choices(filters, random, rows))


@pytest.mark.parametrize("name", RUNNERS)
def test_filter_that_leaves_one_percent_returns_all_of_it(runners, filters, name):
    history = np.random.default_rng(4).integers(1, ITEMS + 1, (8, 6), dtype=np.int32)
    wanted = np.zeros((8, 4), np.int32)
    wanted[:, 0] = filters.values.code("category", "rare")
    check(runners[name], filters, history, np.zeros((8, 4), np.int32), {"filter": wanted})


@pytest.mark.parametrize("name", RUNNERS)
def test_similar_items_have_the_nearest_vectors(runners, name):
    """The cosine to the newest item, from the rows of the table; INT8 rounds them."""
    vectors = runners["torch"].recommender.scorer.items().detach().numpy()[1 : ITEMS + 1]
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    history = np.zeros((3, 6), np.int32)
    history[:, -1] = [5, ITEMS, 77]
    items, scores = runners[name].recommend(history, np.zeros((3, 4), np.int32), {"similar": np.ones((3, 1), np.int32)})
    tolerance = {"torch": 1e-5, "fp32": 1e-5, "fp16": 2e-3}.get(name, 0.05)
    for row, item in enumerate(history[:, -1]):
        cosines = vectors @ vectors[item - 1]
        np.testing.assert_allclose(scores[row, :-1], np.sort(np.delete(cosines, item - 1))[::-1], atol=tolerance)
        np.testing.assert_allclose(cosines[items[row, :5] - 1], scores[row, :5], atol=tolerance)


def test_similar_asked_of_an_empty_history_is_popularity(runners):
    nothing = np.zeros((1, 6), np.int32), np.zeros((1, 4), np.int32)
    items, _ = runners["fp32"].recommend(*nothing, {"similar": np.ones((1, 1), np.int32)})
    np.testing.assert_array_equal(items, runners["fp32"].recommend(*nothing)[0])


def test_model_without_attributes_refuses_a_filter_and_its_export(runners, tmp_path):
    student = runners["torch"].recommender.scorer
    one = np.ones((1, 6), np.int32), np.zeros((1, 4), np.int32), {"filter": np.ones((1, 4), np.int32)}
    with pytest.raises(ValueError, match="'filter'"):
        TorchRunner(student, SPEC).recommend(*one)
    with pytest.raises(ValueError, match="would ignore"):
        export_onnx(Recommender(student, SPEC).eval(), tmp_path / "model.onnx", {})


def test_request_with_a_choice_that_the_model_lacks_is_refused(runners):
    plain = RecommenderSpec(ITEMS, 6, 4, 10)
    with pytest.raises(ValueError, match="allow"):
        TorchRunner(runners["torch"].recommender.scorer, plain).recommend(
            np.ones((1, 6), np.int32), np.zeros((1, 4), np.int32), {"allow": np.ones((1, 5), np.int32)}
        )
