import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, numpy_helper

from distilrec.config import spec_of_run
from distilrec.core.errors import PrecisionError
from distilrec.core.specs import WEIGHT_LIMIT
from distilrec.data import stage as data_stage
from distilrec.data.dataset import held_out
from export.artefact import TENSORRT_FILE, WEIGHTS_FILE
from export.graph.int8 import Form, quantize_weights, to_int8
from export.graph.layers import HEAD, constant, weight_layers
from export.graph.onnx_runner import OnnxRunner
from export.graph.shared_weights import save_sharing_weights

LAYERS = ["embedding", "scorer.mlp.1.weight", "scorer.mlp.4.weight", "head"]


@pytest.fixture(scope="module")
def source(shop_run):
    return onnx.load(shop_run / "export" / "fp32" / "model.onnx")


@pytest.fixture(scope="module")
def ranges(source):
    return {layer.activation: 3.0 for layer in weight_layers(source.graph) if layer.activation}


@pytest.fixture(scope="module")
def shop(shop_run, shop_config):
    dataset, vocabulary = data_stage.load(shop_run / "data")
    spec = spec_of_run(shop_config, len(vocabulary))
    return spec, held_out(dataset, "test", spec)


@given(arrays(np.float32, (5, 7), elements=st.floats(-1e3, 1e3, width=32)), st.sampled_from([0, 1]))
def test_quantised_weights_are_within_half_a_step(weights, axis):
    quantized, scales = quantize_weights(weights, axis)
    steps = scales[:, None] if axis == 0 else scales[None, :]
    assert quantized.dtype == np.int8
    assert np.abs(quantized).max(initial=0) <= WEIGHT_LIMIT
    assert (scales > 0).all()
    assert (np.abs(quantized * steps - weights) <= 0.5001 * steps + 1e-6).all()


def test_layers_have_the_names_people_know(source):
    assert [layer.name for layer in weight_layers(source.graph)] == LAYERS


@pytest.mark.parametrize("form", Form)
def test_table_is_stored_once_as_int8(source, ranges, form):
    graph = to_int8(source, ranges, form).graph
    tables = [tensor for tensor in graph.initializer if list(tensor.dims) == [96, 8]]
    assert [tensor.data_type for tensor in tables] == [TensorProto.INT8]
    assert np.abs(numpy_helper.to_array(tables[0])).max() == WEIGHT_LIMIT
    assert not [t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) == 2 and t.dims[0] > 96]


def test_tensorrt_form_feeds_int8_constants_to_dequantisation_only(source, ranges):
    graph = to_int8(source, ranges, Form.TENSORRT).graph
    int8 = {t.name for t in graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) == 2}
    readers = {node.op_type for node in graph.node if int8 & set(node.input)}
    assert readers == {"DequantizeLinear"}
    zero_points = [constant(graph, node.input[2]) for node in graph.node if node.op_type == "QuantizeLinear"]
    assert all(zero.dtype == np.int8 and zero == 0 for zero in zero_points)


def test_cpu_form_gathers_int8_rows_and_has_unsigned_activations(source, ranges):
    graph = to_int8(source, ranges, Form.CPU).graph
    gathered = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    assert any(t.data_type == TensorProto.INT8 for t in graph.initializer if t.name in gathered)
    zero_points = [constant(graph, node.input[2]) for node in graph.node if node.op_type == "QuantizeLinear"]
    assert all(zero.dtype == np.uint8 and zero == 128 for zero in zero_points)


def test_every_product_reads_dequantised_values(source, ranges):
    graph = to_int8(source, ranges, Form.CPU).graph
    producers = {output: node.op_type for node in graph.node for output in node.output}
    found = [[producers.get(name) for name in node.input[:2]] for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    assert found.count(["DequantizeLinear", "DequantizeLinear"]) == 3


def test_cpu_form_applies_the_scales_of_items_to_their_scores(source, ranges):
    graph = to_int8(source, ranges, Form.CPU).graph
    head = next(layer for layer in weight_layers(source.graph) if layer.name == HEAD)
    scores = next(node for node in graph.node if node.output[0] == head.node.output[0])
    product = next(node for node in graph.node if node.output[0] == scores.input[0])
    table = next(node for node in graph.node if node.output[0] == product.input[1])
    assert [scores.op_type, product.op_type, table.op_type] == ["Mul", head.node.op_type, "DequantizeLinear"]
    assert constant(graph, table.input[1]) == 1.0
    quantized, scales = quantize_weights(constant(source.graph, head.weights), head.output_axis)
    assert (constant(graph, table.input[0]) == quantized).all()
    assert (constant(graph, scores.input[1]) == scales).all()


def test_head_with_a_bias_keeps_its_scales_in_the_product(source, ranges):
    with_bias = onnx.ModelProto()
    with_bias.CopyFrom(source)
    head = next(layer for layer in weight_layers(with_bias.graph) if layer.name == HEAD)
    with_bias.graph.initializer.append(numpy_helper.from_array(np.ones(96, np.float32), "bias"))
    head.node.input.append("bias")
    graph = to_int8(with_bias, ranges, Form.CPU).graph
    product = next(node for node in graph.node if node.output[0] == head.node.output[0])
    table = next(node for node in graph.node if node.output[0] == product.input[1])
    assert product.op_type == "Gemm"
    assert product.input[2] == "bias"
    assert constant(graph, table.input[1]).shape == (96,)


@pytest.mark.parametrize("left", LAYERS)
def test_layer_that_is_left_stays_fp32(source, ranges, left):
    graph = to_int8(source, ranges, Form.CPU, leave=[left]).graph
    layer = next(layer for layer in weight_layers(source.graph) if layer.name == left)
    node = next(node for node in graph.node if node.output[0] == layer.node.output[0])
    assert layer.weights in node.input


def test_both_forms_share_their_weights_and_give_the_same_answers(source, ranges, shop, tmp_path):
    spec, users = shop
    models = {"model.onnx": to_int8(source, ranges, Form.CPU), TENSORRT_FILE: to_int8(source, ranges, Form.TENSORRT)}
    save_sharing_weights(models, tmp_path)
    answers = [OnnxRunner(tmp_path / name, spec).recommend(users.history, users.exclude) for name in models]
    assert (answers[0][0] == answers[1][0]).all()
    assert np.abs(answers[0][1] - answers[1][1]).max() < 1e-4
    locations = [
        {t.name: (e["location"], e["offset"]) for t in model.graph.initializer if (e := {x.key: x.value for x in t.external_data})}
        for model in (onnx.load(tmp_path / name, load_external_data=False) for name in models)
    ]
    table = next(name for name in locations[0] if name.endswith("learned.int8"))
    assert locations[0][table] == locations[1][table]
    assert locations[0][table][0] == WEIGHTS_FILE
    largest = (tmp_path / WEIGHTS_FILE).stat().st_size
    assert largest < 2 * 96 * 8 + 4096


def test_the_source_is_not_changed(source, ranges):
    before = source.SerializeToString(deterministic=True)
    to_int8(source, ranges, Form.CPU)
    assert source.SerializeToString(deterministic=True) == before


def test_weights_that_are_no_numbers_are_named(source, ranges):
    broken = onnx.ModelProto()
    broken.CopyFrom(source)
    tensor = next(t for t in broken.graph.initializer if t.name == "scorer.mlp.1.weight")
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(PrecisionError, match=r"not finite in scorer\.mlp\.1\.weight"):
        to_int8(broken, ranges, Form.CPU)


@pytest.mark.parametrize("largest", [np.inf, np.nan])
def test_range_that_is_no_number_is_refused(source, ranges, largest):
    with pytest.raises(PrecisionError, match="expected a finite number"):
        to_int8(source, dict.fromkeys(ranges, largest), Form.CPU)


def test_graph_without_matrices_is_refused():
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    tensors = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", tensors[:1], tensors[1:]))
    with pytest.raises(PrecisionError, match="nothing to bring to INT8"):
        to_int8(model, {}, Form.CPU)
