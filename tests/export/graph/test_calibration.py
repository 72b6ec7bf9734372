import dataclasses

import numpy as np
import onnx
import pytest

from distilrec.config import CalibrationConfig, spec_of_run
from distilrec.core.errors import CalibrationError
from distilrec.core.specs import RecommenderSpec
from distilrec.data import stage as data_stage
from distilrec.data.dataset import Dataset
from export.graph.calibration import CalibrationSet, activation_ranges, check_calibration, load_calibration, sample_calibration
from export.graph.layers import weight_layers


@pytest.fixture(scope="module")
def shop(shop_run, shop_config):
    dataset, vocabulary = data_stage.load(shop_run / "data")
    return dataset, vocabulary, spec_of_run(shop_config, len(vocabulary))


@pytest.fixture(scope="module")
def sample(shop):
    dataset, vocabulary, spec = shop
    return sample_calibration(dataset, spec, vocabulary.sha256, 400, seed=0)


def test_sample_is_shaped_like_traffic(sample, shop):
    lengths = (sample.history != 0).sum(axis=1)
    dataset = shop[0]
    counts = dataset.training_counts()
    last = sample.history[lengths > 0, -1]
    assert len(sample.history) == len(sample.exclude) == 400
    assert (lengths == 0).sum() == 20  # cold users
    assert 80 <= ((lengths > 0) & (lengths <= 3)).sum() < 250
    assert (lengths == sample.history.shape[1]).sum() >= 20
    assert (counts[last] <= np.median(counts[1:])).sum() >= 60


def test_sample_holds_training_prefixes_only(shop):
    dataset, vocabulary, spec = shop
    known = {tuple(dataset.sequence(u)[:end]) for u, cut in enumerate(dataset.validation_start) for end in range(cut + 1)}
    drawn = sample_calibration(dataset, dataclasses.replace(spec, history_length=40), vocabulary.sha256, 200, seed=3)
    assert all(tuple(row[row != 0]) in known for row in drawn.history)


def test_same_seed_gives_the_same_bytes(shop, tmp_path):
    dataset, vocabulary, spec = shop
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        sample_calibration(dataset, spec, vocabulary.sha256, 50, seed).save(tmp_path / f"{name}.npz")
    a, b, c = ((tmp_path / f"{name}.npz").read_bytes() for name in "abc")
    assert a == b != c


def test_no_training_interaction_is_an_error():
    empty = Dataset(np.array([1, 2], np.int32), np.array([0, 2]), np.array([0]), np.array([1]), item_count=2)
    with pytest.raises(CalibrationError, match="no training interaction"):
        sample_calibration(empty, RecommenderSpec(2, 3, 3, 2), "v", 10, 0)


def test_saved_set_survives_reading(sample, shop, tmp_path):
    _, vocabulary, spec = shop
    sample.save(tmp_path / "requests.npz")
    found = load_calibration(tmp_path / "requests.npz", spec, vocabulary.sha256)
    assert (found.history == sample.history).all()
    assert (found.exclude == sample.exclude).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary_sha256": "f" * 64}, "indices are other items"),
        ({"history": np.zeros((400, 12), np.int32)}, "no request with a history"),
        ({"history": np.zeros((0, 12), np.int32), "exclude": np.zeros((0, 16), np.int32)}, "no request with a history"),
        ({"history": np.ones((400, 13), np.int32)}, r"found history as int32 \[400, 13\], expected int32 \[requests, 12\]"),
        ({"history": np.ones((400, 12), np.int64)}, "found history as int64"),
        ({"history": np.full((400, 12), 91, np.int32)}, r"outside 0\.\.90"),
        ({"exclude": np.zeros((3, 16), np.int32)}, "400 rows of history and 3 of exclude"),
    ],
)
def test_requests_of_another_model_are_refused(sample, shop, change, message):
    _, vocabulary, spec = shop
    with pytest.raises(CalibrationError, match=message):
        check_calibration(dataclasses.replace(sample, **change), spec, vocabulary.sha256, "here")


@pytest.mark.parametrize("content", [None, b"", b"not a zip", b"PK\x03\x04 truncated"])
def test_file_that_is_no_calibration_set_is_refused(shop, tmp_path, content):
    path = tmp_path / "requests.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CalibrationError, match=r"requests\.npz: (no such file|not a calibration set)"):
        load_calibration(path, shop[2], shop[1].sha256)


@pytest.fixture(scope="module")
def model(shop_run):
    return onnx.load(shop_run / "export" / "fp32" / "model.onnx")


def test_minmax_is_the_largest_magnitude_of_all_batches_whatever_its_sign():
    """A graph whose inner tensors follow by hand: history times -2 and exclude times 3."""
    helper, numbers = onnx.helper, onnx.TensorProto
    nodes, constants = [], []
    for name, factor in (("history", -2), ("exclude", 3)):
        constants.append(onnx.numpy_helper.from_array(np.array(factor, np.float32), f"{name}.factor"))
        nodes.append(helper.make_node("Cast", [name], [f"{name}.float"], to=numbers.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{name}.float", f"{name}.factor"], [f"{name}.scaled"]))
    nodes.append(helper.make_node("Concat", ["history.scaled", "exclude.scaled"], ["scores"], axis=1))
    inputs = [helper.make_tensor_value_info(name, numbers.INT32, ["batch", 2]) for name in ("history", "exclude")]
    output = helper.make_tensor_value_info("scores", numbers.FLOAT, ["batch", 4])
    graph = helper.make_graph(nodes, "scaled", inputs, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    history, exclude = np.ones((200, 2), np.int32), np.ones((200, 2), np.int32)
    history[199, 1], exclude[0, 0] = 11, 5  # in the last batch and in the first

    ranges = activation_ranges(
        model, ["history.scaled", "exclude.scaled"], CalibrationSet(history, exclude, ""), CalibrationConfig()
    )
    assert ranges == {"history.scaled": 22.0, "exclude.scaled": 15.0}


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_other_methods_clip_rare_values(model, sample, method):
    names = [layer.activation for layer in weight_layers(model.graph) if layer.activation]
    largest = activation_ranges(model, names, sample, CalibrationConfig())
    found = activation_ranges(model, names, sample, CalibrationConfig(method=method, percentile=90))
    assert found.keys() == largest.keys()
    assert all(0 < found[name] <= largest[name] * 1.0001 for name in names)
    assert any(found[name] < 0.95 * largest[name] for name in names)


def test_broken_weights_are_named(model, sample):
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    table = next(tensor for tensor in broken.graph.initializer if list(tensor.dims) == [96, 8])
    table.CopyFrom(onnx.numpy_helper.from_array(np.full((96, 8), np.nan, np.float32), table.name))
    name = next(layer.activation for layer in weight_layers(model.graph) if layer.name == "scorer.mlp.1.weight")
    with pytest.raises(CalibrationError, match="not finite"):
        activation_ranges(broken, [name], sample, CalibrationConfig())
