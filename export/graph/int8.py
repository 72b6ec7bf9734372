"""FP32 ONNX -> INT8 ONNX with explicit quantisation (Q/DQ nodes; Jacob et al. 2018, arXiv:1712.05877).

Weights are symmetric within +-64, one scale for each output channel (each item of the table); activations are symmetric with one
scale a tensor. The item table is stored once. Two forms of the same arithmetic exist, because the two runtimes fuse different
patterns: see :class:`Form`.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from distilrec.core.errors import PrecisionError
from distilrec.core.specs import ACTIVATION_LIMIT, WEIGHT_LIMIT
from export.graph.layers import HEAD, Layer, constant, weight_layers

_SMALLEST_SCALE = np.float32(1e-12)
"""A scale must be above 0, also for a row of zeros (padding) or an activation that is always 0."""

_UINT8_ZERO_POINT = 128
"""The middle of uint8: with it, activations are as symmetric as int8 with zero point 0."""


class Form(StrEnum):
    """The runtime whose patterns the graph follows."""

    CPU = "cpu"
    """ONNX Runtime. Activations are uint8 with zero point 128, because its signed kernels are slow. The table is gathered as int8
    and then made float; otherwise the whole table would be made float at every call. The items' scales are applied to their scores,
    because a product with a scale for every column takes two to three times as long with one request."""
    TENSORRT = "tensorrt"
    """TensorRT. Activations are int8, and an int8 constant may feed a DequantizeLinear only."""


def quantize_weights(weights: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise symmetrically with one scale for each index along ``axis``.

    Args:
        weights: Finite float32 array of any shape.
        axis: Axis with one scale for each index.

    Returns:
        Quantised weights, int8 of the same shape within +-WEIGHT_LIMIT, and scales > 0, float32 [weights.shape[axis]]. The weights
        are about the product of both.
    """
    largest = np.abs(weights).max(axis=tuple(i for i in range(weights.ndim) if i != axis))
    scales = np.maximum(largest / WEIGHT_LIMIT, _SMALLEST_SCALE).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
    quantized = np.clip(np.rint(weights / scales.reshape(shape)), -WEIGHT_LIMIT, WEIGHT_LIMIT)
    return quantized.astype(np.int8), scales


def to_int8(model: onnx.ModelProto, ranges: Mapping[str, float], form: Form, *, leave: Collection[str] = ()) -> onnx.ModelProto:
    """The model with its weight layers in INT8.

    Args:
        model: FP32 model, weights inside.
        ranges: Largest magnitude of each layer's input activation by its name (``calibration.activation_ranges``).
        form: Runtime that the graph is for.
        leave: Names of layers that stay in FP32.

    Raises:
        PrecisionError: There is nothing to quantise, or a weight or range is not a finite number.
    """
    layers = [layer for layer in weight_layers(model.graph) if layer.name not in leave]
    if not layers:
        raise PrecisionError(
            "found no product with a constant matrix, expected at least the item table's: nothing to bring to INT8"
        )
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    rewriter = _Rewriter(graph, form)
    by_output = {layer.node.output[0]: layer for layer in layers}
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        layer = by_output.get(node.output[0])
        if layer is None:
            graph.node.append(node)
        elif layer.kind == "gather":
            rewriter.gather(layer, node)
        else:
            rewriter.product(layer, node, ranges[str(layer.activation)])
    _drop_unused(graph)
    return result


class _Rewriter:
    """Puts quantised layers into a graph; each activation is quantised once, and each matrix once for each axis."""

    def __init__(self, graph: onnx.GraphProto, form: Form) -> None:
        self.graph = graph
        self.form = form
        self.weights: dict[tuple[str, int], tuple[str, str, str]] = {}
        self.dequantized: dict[tuple[str, int], str] = {}
        self.activations: dict[str, str] = {}

    def gather(self, layer: Layer, node: onnx.NodeProto) -> None:
        """Replace the look-up of item vectors by index."""
        output = node.output[0]
        if self.form is Form.TENSORRT:
            table = self._dequantized_weights(layer)
            self._add("Gather", [table, node.input[1]], output, axis=0)
            return
        quantized, scales, _ = self._quantized_weights(layer)
        column = self._constant(f"{layer.weights}.scale_column", constant(self.graph, scales).reshape(-1, 1))
        rows = self._add("Gather", [quantized, node.input[1]], f"{output}.int8", axis=0)
        floats = self._add("DequantizeLinear", [rows, *self._one()], f"{output}.unscaled")
        scale_rows = self._add("Gather", [column, node.input[1]], f"{output}.row_scale", axis=0)
        self._add("Mul", [floats, scale_rows], output)

    def product(self, layer: Layer, node: onnx.NodeProto, largest: float) -> None:
        """Replace the product of an activation and a constant matrix."""
        new = onnx.NodeProto()
        new.CopyFrom(node)
        new.input[0] = self._quantized_activation(node.input[0], largest)
        if self.form is Form.CPU and layer.name == HEAD and len(node.input) == 2:  # a bias would be scaled, too
            quantized, scales, _ = self._quantized_weights(layer)
            new.input[1] = self._add("DequantizeLinear", [quantized, *self._one()], f"{quantized}.unscaled")
            new.output[0] = f"{node.output[0]}.unscaled"
            self.graph.node.append(new)
            self._add("Mul", [new.output[0], scales], node.output[0])
        else:
            new.input[1] = self._dequantized_weights(layer)
            self.graph.node.append(new)

    def _quantized_activation(self, name: str, largest: float) -> str:
        if name not in self.activations:
            if not np.isfinite(largest):
                raise PrecisionError(f"found a range of {largest} for {name}, expected a finite number; the weights are broken")
            scale = self._constant(f"{name}.scale", np.array(max(largest / ACTIVATION_LIMIT, _SMALLEST_SCALE), np.float32))
            zero_point = np.array(_UINT8_ZERO_POINT, np.uint8) if self.form is Form.CPU else np.array(0, np.int8)
            zero = self._constant(f"{name}.zero_point", zero_point)
            quantized = self._add("QuantizeLinear", [name, scale, zero], f"{name}.quantized")
            self.activations[name] = self._add("DequantizeLinear", [quantized, scale, zero], f"{name}.dequantized")
        return self.activations[name]

    def _quantized_weights(self, layer: Layer) -> tuple[str, str, str]:
        """Names of the int8 matrix, its scales and its zero points."""
        name, key = layer.weights, (layer.weights, layer.output_axis)
        if key not in self.weights:
            values = constant(self.graph, name)
            if not np.isfinite(values).all():
                raise PrecisionError(f"found weights that are not finite in {name}, expected numbers; train the student again")
            quantized, scales = quantize_weights(values, layer.output_axis)
            # The basis of a low-rank table is multiplied along both axes, and each axis has scales of its own.
            stem = f"{name}.axis_{layer.output_axis}" if (name, 1 - layer.output_axis) in self.weights else name
            self.weights[key] = (
                self._constant(f"{stem}.int8", quantized),
                self._constant(f"{stem}.scales", scales),
                # Explicit zero points: without them ONNX Runtime does not fuse.
                self._constant(f"{stem}.zero_points", np.zeros(len(scales), np.int8)),
            )
        return self.weights[key]

    def _dequantized_weights(self, layer: Layer) -> str:
        key = (layer.weights, layer.output_axis)
        if key not in self.dequantized:
            inputs = list(self._quantized_weights(layer))
            output = f"{inputs[0].removesuffix('.int8')}.dequantized"
            self.dequantized[key] = self._add("DequantizeLinear", inputs, output, axis=layer.output_axis)
        return self.dequantized[key]

    def _one(self) -> tuple[str, str]:
        """Names of a scale and a zero point that leave values as they are."""
        return self._constant("one", np.array(1.0, np.float32)), self._constant("int8_zero", np.array(0, np.int8))

    def _constant(self, name: str, value: NDArray[np.generic]) -> str:
        if all(tensor.name != name for tensor in self.graph.initializer):
            self.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def _add(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.graph.node.append(helper.make_node(op_type, inputs, [output], name=f"{output}.{op_type}", **attributes))
        return output


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove constants that no node reads any more. Recorded shapes stay: with them ONNX Runtime masks scores in place."""
    read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
