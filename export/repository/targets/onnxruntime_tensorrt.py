"""Serving target ``onnxruntime-tensorrt``: Triton's own ONNX Runtime backend, with the TensorRT provider on a GPU.

ONNX Runtime builds the engine from the graph when the model is first loaded.
"""

from distilrec.config import ExportConfig
from distilrec.config.export import SERVING_TARGETS
from export.repository.check import check_against_graph
from export.repository.config import ServedModelFacts, config_text, run_on_gpu
from export.repository.target import ServingTarget
from export.repository.targets.onnxruntime import onnxruntime_config
from export.repository.version_files import copy_graph

_ENGINE_CACHE = "/tmp/trt_engines"  # noqa: S108 - a path in the container


def render(name: str, facts: ServedModelFacts, config: ExportConfig, version: int) -> str:
    """The configuration of a graph on the GPU, accelerated by TensorRT. The precision is in the graph."""
    model = onnxruntime_config(name, facts, config, version)
    accelerator = model.optimization.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
    # The engine is built once and kept.
    accelerator.parameters["trt_engine_cache_enable"] = "1"
    accelerator.parameters["trt_engine_cache_path"] = _ENGINE_CACHE
    return config_text(model, run_on_gpu(model))


SERVING_TARGETS.declare("onnxruntime-tensorrt", ServingTarget(render, copy_graph, check_against_graph, front_door_runs_graph=False))
