"""FP32 ONNX -> FP16 ONNX: weights and most arithmetic in half precision; operations that would spoil the ranking stay in single."""

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, numpy_helper
from onnx_ir.passes.common import RemoveUnusedNodesPass, TopologicalSortPass
from onnxruntime.transformers.float16 import convert_float_to_float16

from distilrec.core.errors import PrecisionError
from export.graph.layers import HEAD, weight_layers

_SUMS = ["Clip", "LayerNormalization", "Softmax", "ReduceSum", "ReduceMean", "ReduceMax", "Div"]
"""Operations of sums and means that stay in FP32."""

_MASKING = ["ConstantOfShape", "ScatterElements", "GatherElements", "Min", "TopK", "Greater"]
"""Operations that stay in FP32 because they handle the score of masked items: -3e38 is no FP16 number."""


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in FP16; its inputs and outputs keep their types.

    Args:
        model: FP32 model, weights inside.

    Raises:
        PrecisionError: No weight became FP16.
    """
    source = onnx.ModelProto()
    source.CopyFrom(model)  # the converter works in place
    kept = [*_SUMS, *_MASKING]
    nodes = [*_nodes_with_large_constants(source.graph), *_nodes_after_head(source.graph)]
    converted = ir.from_proto(convert_float_to_float16(source, keep_io_types=True, op_block_list=kept, node_block_list=nodes))
    _skip_round_trips(converted.graph, _not_single(model))
    # The converter leaves its casts at the end of the node list.
    result = ir.to_proto(ir.passes.Sequential(TopologicalSortPass(), RemoveUnusedNodesPass())(converted).model)
    del result.graph.value_info[:]  # recorded types that have changed
    if not any(tensor.data_type == TensorProto.FLOAT16 and len(tensor.dims) == 2 for tensor in result.graph.initializer):
        raise PrecisionError("found no FP16 matrix after the conversion, expected the item table at least")
    onnx.checker.check_model(result, full_check=True)
    return result


def _nodes_with_large_constants(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that read a constant beyond the range of FP16, such as the score of a masked item."""
    largest = float(np.finfo(np.float16).max)
    large = {
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and np.abs(numpy_helper.to_array(tensor)).max(initial=0) > largest
    }
    return [node.name for node in graph.node if large & set(node.input)]


def _nodes_after_head(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that read the head's scores, directly or not: rounded scores would tie."""
    scores = {layer.node.output[0] for layer in weight_layers(graph) if layer.name == HEAD}
    names = []
    for node in graph.node:  # in an order in which each comes after those that it reads
        if scores & set(node.input):
            scores |= set(node.output)
            names.append(node.name)
    return names


def _not_single(model: onnx.ModelProto) -> set[str]:
    """Names of the values of an FP32 model that are booleans or integers; the conversion leaves them as they are."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.input, *graph.value_info, *graph.initializer]
    types = {v.name: v.data_type if isinstance(v, onnx.TensorProto) else v.type.tensor_type.elem_type for v in values}
    return {name for name, dtype in types.items() if dtype != TensorProto.FLOAT}


def _skip_round_trips(graph: ir.Graph, not_single: set[str]) -> None:
    """Let single precision reach the next single-precision node directly.

    The converter casts every output of a kept node to FP16 and back, which would round scores before the top-K.
    """
    for node in graph:
        half = _cast_from(node, ir.DataType.FLOAT)
        single = _cast_from(half.producer(), ir.DataType.FLOAT16) if half is not None else None
        if single is None or single.name in not_single:
            continue
        if node.outputs[0].is_graph_output():
            node.replace_input_with(0, single)  # from single to single: the output keeps its name
        else:
            node.outputs[0].replace_all_uses_with(single)


def _cast_from(node: ir.Node | None, dtype: ir.DataType) -> ir.Value | None:
    """The value that the node casts to ``dtype``; None where it does no such thing."""
    if node is None or node.op_type != "Cast" or node.attributes["to"].as_int() != dtype:
        return None
    return node.inputs[0]
