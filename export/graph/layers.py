"""The weight layers of an exported graph, to which a lower precision can be applied."""

from dataclasses import dataclass
from typing import Any, Literal

import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

HEAD = "head"
"""Name of the layer in which the item table scores candidates."""


@dataclass(frozen=True)
class Layer:
    """A node that reads a constant float32 matrix."""

    name: str
    """Name of the weights, by which messages tell layers apart; the two uses of the item table are ``embedding`` and ``head``."""
    kind: Literal["gather", "matmul", "gemm"]
    node: onnx.NodeProto
    weights: str
    """Name of the matrix among the graph's initializers."""
    output_axis: int
    """Axis of the matrix with one scale for each index: output channels, or items of the table."""

    @property
    def activation(self) -> str | None:
        """Name of the float32 tensor the matrix is multiplied with; None for a gather."""
        return None if self.kind == "gather" else str(self.node.input[0])


def weight_layers(graph: onnx.GraphProto) -> list[Layer]:
    """The item table's gather and all products with a constant float32 matrix, in the graph's order."""
    matrices = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) == 2}
    multiplied = {node.input[1] for node in graph.node if node.op_type in ("MatMul", "Gemm")}
    gathered = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    # The item table is both gathered and multiplied; other gathers (positions of a transformer) are small and stay as they are.
    tables = matrices & multiplied & gathered
    layers = []
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0] in tables:
            layers.append(Layer("embedding", "gather", node, node.input[0], 0))
        elif node.op_type == "MatMul" and node.input[1] in matrices:
            layers.append(Layer(_name(node.input[1], tables), "matmul", node, node.input[1], 1))
        elif node.op_type == "Gemm" and node.input[1] in matrices:
            transposed = bool(next((a.i for a in node.attribute if a.name == "transB"), 0))
            layers.append(Layer(_name(node.input[1], tables), "gemm", node, node.input[1], 0 if transposed else 1))
    return layers


def _name(weights: str, tables: set[str]) -> str:
    return HEAD if weights in tables else weights


def constant(graph: onnx.GraphProto, name: str) -> NDArray[Any]:
    """An initializer as an array."""
    return numpy_helper.to_array(next(tensor for tensor in graph.initializer if tensor.name == name))
