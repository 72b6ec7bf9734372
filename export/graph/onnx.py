"""PyTorch -> ONNX, with mask and top-K in the graph."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from distill.models.encoders import Recommender

OPSET = 20
"""Opset of the exported graphs. Up to 22 works: from 23 on, attention becomes one node that TensorRT for RTX refuses in FP32."""

EXAMPLE_BATCH = 2
"""Rows of the example that the exporter traces: ``torch.export`` takes a size of 1 for a constant."""


def export_onnx(recommender: Recommender, path: Path, metadata: dict[str, str]) -> None:
    """Write ``recommender`` as an ONNX file with a dynamic batch dimension.

    Args:
        recommender: Recommender in evaluation mode.
        path: File to write.
        metadata: Properties for the model's ``metadata_props``.

    Raises:
        ValueError: The model lacks the attributes that its spec has a filter for, or has no vectors of items to compare.
    """
    spec = recommender.spec
    if lacking := recommender.cannot():
        raise ValueError(f"found a model that cannot follow {', '.join(lacking)}: the graph would ignore what requests choose")
    example = tuple(torch.zeros(EXAMPLE_BATCH, *tensor.shape, dtype=torch.int32) for tensor in spec.inputs)
    inputs, outputs = ([tensor.name for tensor in tensors] for tensors in (spec.inputs, spec.outputs))
    export_module(recommender, example, path, metadata, inputs=inputs, outputs=outputs, variadic=len(spec.choices))


def export_module(
    module: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    metadata: dict[str, str],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    variadic: int = 0,
) -> None:
    """Write a module as an ONNX file. The first dimension of each tensor is the batch.

    Args:
        module: Module in evaluation mode.
        example: Inputs to trace it with, of ``EXAMPLE_BATCH`` rows.
        path: File to write.
        metadata: Properties for the model's ``metadata_props``.
        inputs: Names of the inputs.
        outputs: Names of the outputs.
        variadic: Number of the last inputs that are one variadic argument of ``forward``.
    """
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's deprecation notices are about itself
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module,
            example,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=_dynamic_shapes(len(example), variadic, batch),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    _save(program.model_proto, module, path, metadata)


def _save(model: onnx.ModelProto, module: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write an exported model without what the exporter records, checked."""
    _strip_node_metadata(model)
    _name_matrices(model.graph, module)
    _narrow_indices(model.graph)
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _dynamic_shapes(inputs: int, variadic: int, batch: object) -> tuple[object, ...]:
    """The first dimension of each input is the batch."""
    dynamic = {0: batch}
    plain = (dynamic,) * (inputs - variadic)
    return (*plain, (dynamic,) * variadic) if variadic else plain


def _strip_node_metadata(model: onnx.ModelProto) -> None:
    """Drop what the exporter records with each node and value: stack traces with local paths."""
    graph = model.graph
    for entry in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        entry.ClearField("metadata_props")
        entry.ClearField("doc_string")


def _narrow_indices(graph: onnx.GraphProto) -> None:
    """Keep constant indices of look-ups as int32, which PyTorch lacks: the one of the filters has an entry for each item."""
    constants = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT64}
    readers = {name: [node for node in graph.node if name in node.input] for name in constants}
    values = {value.name: value for value in graph.value_info}
    for node in graph.node:
        if node.op_type != "Expand" or node.input[0] not in constants or len(readers[node.input[0]]) > 1:
            continue
        users = [user for user in graph.node if node.output[0] in user.input]
        if all(user.op_type == "GatherElements" and user.input[0] != node.output[0] for user in users):
            tensor = constants[node.input[0]]
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.int32), tensor.name))
            for name in (tensor.name, node.output[0]):
                if name in values:
                    values[name].type.tensor_type.elem_type = onnx.TensorProto.INT32


def _name_matrices(graph: onnx.GraphProto, module: nn.Module) -> None:
    """Name folded matrices after their parameter again, so that messages about layers can be understood."""
    parameters = {name: value.detach().numpy() for name, value in module.named_parameters() if value.ndim == 2}
    taken = {tensor.name for tensor in graph.initializer}
    renamed: dict[str, str] = {}
    for tensor in graph.initializer:
        if tensor.name not in parameters and len(tensor.dims) == 2:
            values = numpy_helper.to_array(tensor)
            equal = [name for name, parameter in parameters.items() if np.array_equal(values, parameter.T) and name not in taken]
            if equal:
                renamed[tensor.name] = equal[0]
                taken.add(equal[0])  # untrained matrices may be equal
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
