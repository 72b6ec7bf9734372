"""Proof of an engine's precision: the types of what its layers really read.

The precision that was requested is no proof: some tools only warn and then write an FP32 engine. Where there is a GPU, TensorRT's
engine inspector lists the layers as JSON. Without one, the builder's log has them: with detailed profiling verbosity it has a line
for each layer.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from distilrec.core.errors import PrecisionError
from distilrec.core.specs import Precision
from export.engines.backends import Message

_PRODUCT_LAYERS = ("gemm", "matmul", "matrixmultiply", "matrix_multiply", "fusion")
"""Parts of the types and kernels of layers that multiply; the names differ between versions."""

_DTYPES = {Precision.FP32: "Float", Precision.FP16: "Half", Precision.INT8: "Int8"}
_LINE = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<type>[^,]*), Inputs: \[", re.MULTILINE)
# TensorRT for RTX writes "Datatype: Half", TensorRT 10 "Format/Datatype: Half" or "Format/Datatype: Row major linear FP16", and
# TensorRT 11 has format and type apart: "Format: Row major linear, DataType: Half".
_TENSOR = re.compile(r"\{ Name: [^{}]*?Dimensions: \[(?P<dims>[^\]]*)\][^{}]*?Data[tT]ype: (?P<dtype>[^,}]*)")
_TYPE_KEYS = ("DataType", "Datatype", "Format/Datatype", "Format/DataType")
_WORDS = {"float": "Float", "fp32": "Float", "half": "Half", "fp16": "Half", "int8": "Int8"}
_ORIGIN = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


@dataclass(frozen=True)
class BuiltTensor:
    """An operand of a built layer."""

    shape: tuple[int, ...]
    """-1 for the batch."""
    dtype: str
    """TensorRT's name of the type: Float, Half, Int8, Int32, ..."""


@dataclass(frozen=True)
class BuiltLayer:
    """A layer of a finished engine."""

    name: str
    layer_type: str
    inputs: tuple[BuiltTensor, ...]
    """Activations, the main one first."""
    constants: tuple[BuiltTensor, ...]
    """Weights. Some versions of TensorRT list them among the inputs, some not at all."""
    origins: frozenset[str]
    """Names of the ONNX nodes it was made from."""
    kernel: str = ""
    """TensorRT's name of the kernel (tactic)."""


def built_layers(log: Iterable[Message]) -> list[BuiltLayer]:
    """Layers in the log of a build with ``ProfilingVerbosity.DETAILED``; a less verbose build logs none."""
    return [_layer(line) for message in log for line in message.text.splitlines() if _LINE.match(line)]


def _layer(line: str) -> BuiltLayer:
    head = _LINE.match(line)
    assert head is not None
    body, _, rest = line[head.end() :].partition(", TacticName: ")
    operands, _, _ = body.partition("], Outputs: [")
    inputs, _, constants = operands.partition("], Constants: [")
    kernel, origins = rest.partition(",")[0], frozenset(_ORIGIN.findall(rest))
    return BuiltLayer(head["name"], head["type"], _tensors(inputs), _tensors(constants), origins, kernel)


def inspected_layers(information: str) -> list[BuiltLayer]:
    """Layers in the JSON of TensorRT's engine inspector, of TensorRT 10 or 11; empty where it holds no more than their names."""
    layers = json.loads(information).get("Layers", [])
    return [_inspected(layer) for layer in layers if isinstance(layer, dict)]


def _inspected(layer: Mapping[str, Any]) -> BuiltLayer:
    inputs, constants = (tuple(map(_inspected_tensor, layer.get(name, ()))) for name in ("Inputs", "Constants"))
    origins = frozenset(_ORIGIN.findall(str(layer.get("Metadata", ""))))
    return BuiltLayer(layer["Name"], str(layer.get("LayerType", "")), inputs, constants, origins, str(layer.get("TacticName", "")))


def _inspected_tensor(tensor: Mapping[str, Any]) -> BuiltTensor:
    dtype = next((str(tensor[key]) for key in _TYPE_KEYS if key in tensor), "")
    return BuiltTensor(tuple(tensor.get("Dimensions", ())), _dtype(dtype))


def _tensors(text: str) -> tuple[BuiltTensor, ...]:
    return tuple(BuiltTensor(_shape(match["dims"]), _dtype(match["dtype"].strip())) for match in _TENSOR.finditer(text))


def _shape(dims: str) -> tuple[int, ...]:
    return tuple(int(size) for size in dims.split(",") if size)


def _dtype(text: str) -> str:
    return next((_WORDS[word] for word in text.lower().split() if word in _WORDS), text)


def gathered_tables(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """Shapes (rows, columns) of the multiplied matrices that rows are also looked up in, by the name of the look-up's node."""
    matrices = _matrices(model)
    multiplied = {node.input[1] for node in model.graph.node if node.op_type in ("MatMul", "Gemm")}
    gathers = [node for node in model.graph.node if node.op_type == "Gather" and node.input[0] in multiplied & matrices.keys()]
    return {node.name: matrices[node.input[0]] for node in gathers}


def constant_products(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """Sizes (depth, width) of the products with a constant matrix, by the name of their node; the depth is summed over.

    The matrix may be behind a ``DequantizeLinear`` or a ``Cast``. External weights need not be loaded.
    """
    matrices = _matrices(model)
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm") and node.input[1] in matrices]
    shapes = {node.name: matrices[node.input[1]] for node in products}
    turned = {node.name for node in products if any(a.name == "transB" and a.i for a in node.attribute)}
    return {name: (rows, columns) if name not in turned else (columns, rows) for name, (rows, columns) in shapes.items()}


def _matrices(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """Shapes of the constant matrices, by the name of the value that holds one: itself, or dequantised or cast."""
    matrices = {tensor.name: (tensor.dims[0], tensor.dims[1]) for tensor in model.graph.initializer if len(tensor.dims) == 2}
    for node in model.graph.node:
        if node.op_type in ("DequantizeLinear", "Cast") and node.input[0] in matrices:
            matrices[node.output[0]] = matrices[node.input[0]]
    return matrices


def prove_precision(layers: Iterable[BuiltLayer], products: Mapping[str, tuple[int, int]], precision: Precision) -> dict[str, str]:
    """Check that every product with a constant matrix was built in ``precision``.

    Args:
        layers: Layers of the engine (``built_layers``).
        products: Products of the model that the engine was built from (``constant_products``).
        precision: Precision that the engine claims.

    Returns:
        The type of each product's operands, by the name of its ONNX node.

    Raises:
        PrecisionError: A product reads other types or is not among the layers, or there is no product.
    """
    listed = list(layers)
    if not products:
        raise PrecisionError("found no product with a constant matrix in the model, expected at least the item table's")
    operands = {name: _operand_types(listed, name, shape) for name, shape in products.items()}
    expected = _DTYPES[precision]
    wrong = {name: types for name, types in operands.items() if types != {expected}}
    if wrong:
        listing = "\n".join(f"  {name}: {', '.join(sorted(types)) or 'no such layer'}" for name, types in wrong.items())
        raise PrecisionError(
            f"found products in the built engine that are not {precision.value}, expected operands of type {expected}:\n{listing}\n"
            f"The engine is not kept; build it from the {precision.value} export"
        )
    return dict.fromkeys(operands, expected)


def _operand_types(layers: Iterable[BuiltLayer], product: str, shape: tuple[int, int]) -> set[str]:
    """All types of activations and matrices in the layers that were made from the product and multiply."""
    types = set()
    for layer in layers:
        if product not in layer.origins:
            continue
        # The layer that rescales an INT8 product has the product's name, too, but no matrix.
        matrices = [t for t in (*layer.inputs, *layer.constants) if sorted(t.shape) == sorted(shape)]
        if matrices or any(word in f"{layer.layer_type} {layer.kernel}".lower() for word in _PRODUCT_LAYERS):
            # What follows the product may be fused with it, and its operands stand among the inputs, too.
            activations = [t for t in layer.inputs if t.shape[-1:] == shape[:1]] or layer.inputs
            types |= {tensor.dtype for tensor in (*activations[:1], *matrices)}
    return types


def table_types(layers: Iterable[BuiltLayer], tables: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    """The type in which each looked-up table lies in the engine, by the name of the look-up's node (``gathered_tables``).

    An engine may keep the table twice: as INT8 for the product, and dequantised for the look-up. A table that is not among the
    layers' operands is left out.
    """
    listed = list(layers)
    found = {}
    for name, shape in tables.items():
        operands = [t for layer in listed if name in layer.origins for t in (*layer.inputs, *layer.constants) if t.shape == shape]
        if operands:
            found[name] = ", ".join(sorted({tensor.dtype for tensor in operands}))
    return found
