import json

import pytest

from distilrec.core.errors import PrecisionError
from distilrec.core.specs import Precision
from export.engines.backends import Message
from export.engines.inspection import BuiltTensor, built_layers, inspected_layers, prove_precision, table_types


def test_layers_are_read_when_tensorrt_10_logs_constants_among_the_inputs():
    line = (
        "Name: gemm_myl0_4, LayerType: gemm, Inputs: [ { Name: x, Location: Device, Dimensions: [-1,64], Format/Datatype: Int8 },"
        " { Name: w, Dimensions: [64,208], Format/Datatype: Row major linear FP16 },"
        " { Name: alpha, Dimensions: [1], Format/Datatype: Float }],"
        " Outputs: [ { Name: y, Dimensions: [-1,208], Format/Datatype: Half }], TacticName: t, StreamId: 0,"
        " Metadata: [ONNX Layer: head][ONNX Layer: cast]"
    )
    layers = built_layers([Message("INFO", "Layers:"), Message("VERBOSE", f"Layers:\n{line}\n\nBindings:")])
    assert [(layer.name, layer.origins) for layer in layers] == [("gemm_myl0_4", {"head", "cast"})]
    assert [(tensor.shape, tensor.dtype) for tensor in layers[0].inputs] == [
        ((-1, 64), "Int8"),
        ((64, 208), "Half"),
        ((1,), "Float"),
    ]
    with pytest.raises(PrecisionError, match="head: Half, Int8"):
        prove_precision(layers, {"head": (64, 208)}, Precision.INT8)


def test_layers_are_read_when_tensorrt_11_logs_format_and_type_apart():
    line = (
        "Name: product_3, LayerType: kgen, Inputs: [ { Name: x, Location: Device, Dimensions: [-1,64], Format: Row major linear,"
        " DataType: Int8 }, { Name: w, Dimensions: [64,208], Format: Row major linear, DataType: Int8 }],"
        " Outputs: [ { Name: y, Dimensions: [-1,208], DataType: Float }], TacticName: sm90_gemm_s8, StreamId: 0,"
        " Metadata: [ONNX Layer: head]"
    )
    (layer,) = built_layers([Message("VERBOSE", line)])
    assert layer.inputs == (BuiltTensor((-1, 64), "Int8"), BuiltTensor((64, 208), "Int8"))
    assert prove_precision([layer], {"head": (64, 208)}, Precision.INT8) == {"head": "Int8"}


def inspected(types, kernel="sm80_xmma_gemm"):
    """What the engine inspector says of one product and the look-up before it; ``types`` are the fields that hold a type."""

    def tensor(name, dims, dtype):
        return {"Name": name, "Location": "Device", "Dimensions": dims} | types(dtype)

    look_up = {
        "Name": "look_up",
        "LayerType": "gather",
        "Inputs": [tensor("history", [-1, 12], "Int32"), tensor("table", [208, 64], "Float")],
        "Outputs": [tensor("x", [-1, 64], "Float")],
        "Metadata": "[ONNX Layer: embedding]",
    }
    product = {
        "Name": "__myl_product",
        "LayerType": "gemm" if kernel is None else "MyelinKernel",
        "Inputs": [tensor("x", [-1, 64], "Int8")],
        "Outputs": [tensor("y", [-1, 208], "Float")],
        "TacticName": kernel or "unnamed",
        "Metadata": "[ONNX Layer: quantize]\x1e[ONNX Layer: head]",
    }
    return json.dumps({"Layers": [look_up, product], "Bindings": ["history"]})


FORMATS = {
    "TensorRT 10": lambda dtype: {"Format/Datatype": f"Row major linear {dtype} format"},
    "TensorRT 11": lambda dtype: {"Format": "Row major linear format (kLINEAR)", "DataType": dtype},
}


@pytest.mark.parametrize("version", FORMATS)
@pytest.mark.parametrize("kernel", ["sm80_xmma_gemm_i8i8_i8i32", None])
def test_inspectors_json_proves_the_precision(version, kernel):
    layers = inspected_layers(inspected(FORMATS[version], kernel))
    assert prove_precision(layers, {"head": (64, 208)}, Precision.INT8) == {"head": "Int8"}
    with pytest.raises(PrecisionError, match="head: Int8"):
        prove_precision(layers, {"head": (64, 208)}, Precision.FP16)


def test_table_that_an_engine_keeps_as_floats_is_seen():
    layers = inspected_layers(inspected(FORMATS["TensorRT 11"]))
    assert table_types(layers, {"embedding": (208, 64), "of another layer": (7, 7)}) == {"embedding": "Float"}


def test_inspector_that_knows_names_alone_proves_nothing():
    assert inspected_layers('{"Layers": ["gemm_1", "gemm_2"]}') == []
