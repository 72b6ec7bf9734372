"""ONNX Runtime's execution providers: their names and options. Needs neither ONNX nor ONNX Runtime."""

from collections.abc import Sequence
from typing import Any, Literal

from distilrec.core.specs import RecommenderSpec

Provider = Literal["cpu", "cuda", "tensorrt"]

NAMES: dict[Provider, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""Names that ONNX Runtime gives them."""

_OPTIMAL_BATCH_SIZE = 8
_LARGEST_BATCH_SIZE = 64
"""Batches of a runner outside Triton, as in the settings' defaults."""


def tensorrt_profile(spec: RecommenderSpec, optimal_batch_size: int, max_batch_size: int) -> dict[str, str]:
    """Options of the TensorRT provider for the shapes that its engine takes.

    Without them the engine is built for the first batch, and again whenever a larger one comes.
    """
    sizes = {"min": 1, "opt": optimal_batch_size, "max": max_batch_size}
    shapes = {
        name: ",".join(f"{t.name}:{'x'.join(map(str, (rows, *t.shape)))}" for t in spec.inputs) for name, rows in sizes.items()
    }
    return {f"trt_profile_{name}_shapes": text for name, text in shapes.items()}


def provider_options(provider: Provider, spec: RecommenderSpec) -> list[tuple[str, dict[str, Any]]]:
    """Providers of a session in the order of their precedence, each with its options."""
    cpu: tuple[str, dict[str, Any]] = (NAMES["cpu"], {})
    cuda: tuple[str, dict[str, Any]] = (NAMES["cuda"], {"use_tf32": "0"})  # on by default; 10 bits of mantissa are not FP32
    if provider == "cpu":
        return [cpu]
    if provider == "cuda":
        return [cuda, cpu]
    # No precision option: the network is strongly typed then, and the graph's types are those of the engine.
    return [(NAMES["tensorrt"], tensorrt_profile(spec, _OPTIMAL_BATCH_SIZE, _LARGEST_BATCH_SIZE)), cuda, cpu]


def missing_provider(provider: Provider, found: Sequence[str]) -> str | None:
    """What is wrong where ONNX Runtime has, or has taken, other providers than the one wanted; None where nothing is."""
    wanted = NAMES[provider]
    if wanted in found:
        return None
    return (
        f"found ONNX Runtime with {', '.join(found)}, expected {wanted}. Install the package with it in the place of the other:"
        " pip uninstall onnxruntime && pip install onnxruntime-gpu"
    )
