"""Serving target ``onnxruntime-tensorrt``: Triton's own ONNX Runtime backend, with the TensorRT provider on a GPU.

ONNX Runtime builds the engine from the graph when the model is first loaded.
"""

from distilrec.config import ExportConfig
from distilrec.config.export import SERVING_TARGETS
from export.graph.providers import tensorrt_profile
from export.repository.check import check_against_graph
from export.repository.config import ServedModelFacts, config_text, run_on_gpu
from export.repository.target import ServingTarget
from export.repository.targets.onnxruntime import onnxruntime_config
from export.repository.targets.onnxruntime_cuda import check_gpu
from export.repository.version_files import copy_tensorrt_graph

_ENGINE_CACHE = "/engines"
"""A volume of the container: /tmp is in memory there, and every restart would build the engine again."""


def render(name: str, facts: ServedModelFacts, config: ExportConfig, version: int) -> str:
    """The configuration of a graph on the GPU, accelerated by TensorRT.

    There is no ``precision_mode``: the precision is in the graph, and with that option ONNX Runtime would leave strong typing.
    The profile holds all batches, so that the engine is not built again as they grow.
    """
    model = onnxruntime_config(name, facts, config, version)
    accelerator = model.optimization.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
    options = {
        "trt_engine_cache_enable": "1",  # the engine is built once and kept
        "trt_engine_cache_path": _ENGINE_CACHE,
        "max_workspace_size_bytes": str(config.engine.workspace_mib << 20),
        **tensorrt_profile(facts.spec, min(config.engine.optimal_batch_size, config.max_batch_size), config.max_batch_size),
    }
    for option, value in options.items():
        accelerator.parameters[option] = value
    return config_text(model, run_on_gpu(model))


SERVING_TARGETS.declare(
    "onnxruntime-tensorrt",
    ServingTarget(
        render,
        copy_tensorrt_graph,
        check_against_graph,
        front_door_runs_graph=False,
        gpu_runner="onnxruntime-tensorrt",
        check_fit=check_gpu,
    ),
)
