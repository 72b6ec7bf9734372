import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from distilrec.config import spec_of_run
from distilrec.core.errors import PrecisionError
from distilrec.core.specs import MASKED_SCORE
from distilrec.data import stage as data_stage
from distilrec.data.dataset import held_out
from distilrec.evaluation.contract import agreement
from distilrec.evaluation.parity import edge_requests
from export.graph.fp16 import to_fp16
from export.graph.onnx_runner import OnnxRunner


@pytest.fixture(scope="module")
def source(shop_run):
    return onnx.load(shop_run / "export" / "fp32" / "model.onnx")


@pytest.fixture(scope="module")
def half(source):
    return to_fp16(source)


def test_matrices_are_half_precision_and_the_table_is_stored_once(half):
    matrices = {t.name: (t.data_type, list(t.dims)) for t in half.graph.initializer if len(t.dims) == 2}
    assert {dtype for dtype, _ in matrices.values()} == {TensorProto.FLOAT16}
    assert [dims for _, dims in matrices.values()].count([96, 8]) == 1


def test_scores_are_not_rounded_again_on_their_way_to_the_answer(half):
    """From the head's product on there is one cast, to single precision."""
    producers = {output: node for node in half.graph.node for output in node.output}
    node, path = producers["scores"], []
    while node.op_type != "Gemm":
        path.append(node.op_type)
        node = producers[node.input[0]]
    assert path == ["Cast", "TopK", "ScatterElements", "Cast"]


def test_masked_scores_keep_their_value(half, shop_run, shop_config, tmp_path):
    _, vocabulary = data_stage.load(shop_run / "data")
    spec = spec_of_run(shop_config, len(vocabulary))
    onnx.save(half, tmp_path / "model.onnx")
    everything = np.arange(1, 91, dtype=np.int32)
    history, exclude = edge_requests(spec)
    items, scores = OnnxRunner(tmp_path / "model.onnx", spec).recommend(history, exclude)
    assert np.isfinite(scores).all()
    assert (items[scores <= MASKED_SCORE / 2] == 0).all()
    assert (scores[items > 0] > -100).all()
    assert set(items[items > 0]) <= set(everything)


def test_optimisations_do_not_change_the_ranking(half, shop_run, shop_config, tmp_path):
    dataset, vocabulary = data_stage.load(shop_run / "data")
    spec = spec_of_run(shop_config, len(vocabulary))
    users = held_out(dataset, "test", spec)
    onnx.save(half, tmp_path / "model.onnx")
    answers = [
        OnnxRunner(tmp_path / "model.onnx", spec, optimize=optimize).recommend(users.history, users.exclude)
        for optimize in (True, False)
    ]
    assert agreement(*answers, users).overlap_at_10 > 0.99


def test_graph_without_matrices_is_refused(source):
    node = onnx.helper.make_node("Identity", ["x"], ["y"], name="same")
    tensors = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", tensors[:1], tensors[1:]), opset_imports=source.opset_import)
    with pytest.raises(PrecisionError, match="no FP16 matrix"):
        to_fp16(model)


def test_a_mask_that_becomes_a_number_is_still_cast():
    """Cast(bool -> float) before a node that stays in single precision is no round trip."""
    model = onnx.parser.parse_model(
        """
        <ir_version: 9, opset_import: ["" : 20]>
        agraph (float[B, 4] x) => (float[B, 1] y)
        <float[4, 4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, float zero = {0}, int64[1] axis = {1}>
        {
            z = MatMul(x, w)
            present = Greater(z, zero)
            mask = Cast <to = 1> (present)
            y = ReduceSum(mask, axis)
        }
        """
    )
    half = to_fp16(model)
    session = onnxruntime.InferenceSession(half.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.array([[1, -1, 2, 0], [0, 0, 0, 0]], np.float32)})[0].tolist() == [[2], [0]]
