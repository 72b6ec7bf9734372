import pytest

from distilrec.core.errors import PrecisionError
from distilrec.core.specs import Precision
from export.engines.backends import Message
from export.engines.inspection import built_layers, prove_precision


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
