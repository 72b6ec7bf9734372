"""Serving target ``onnxruntime-cuda``: Triton's own ONNX Runtime backend, with the CUDA provider on a GPU."""

from distilrec.config import ExportConfig
from distilrec.config.export import SERVING_TARGETS
from export.repository.check import check_against_graph
from export.repository.config import ServedModelFacts, config_text, run_on_gpu
from export.repository.target import ServingTarget
from export.repository.targets.onnxruntime import onnxruntime_config
from export.repository.version_files import copy_graph


def render(name: str, facts: ServedModelFacts, config: ExportConfig, version: int) -> str:
    """The configuration of a graph on the GPU."""
    model = onnxruntime_config(name, facts, config, version)
    return config_text(model, run_on_gpu(model))


SERVING_TARGETS.declare("onnxruntime-cuda", ServingTarget(render, copy_graph, check_against_graph, front_door_runs_graph=False))
