"""Serving target ``onnxruntime-cuda``: Triton's own ONNX Runtime backend, with the CUDA provider on a GPU."""

from pathlib import Path

from distilrec.config import ExportConfig
from distilrec.config.export import SERVING_TARGETS
from distilrec.core.errors import RepositoryError
from distilrec.core.manifest import Manifest
from distilrec.core.specs import Precision
from export.engines.containers import container_of, gpu_faults
from export.engines.host import find_gpu
from export.repository.check import check_against_graph
from export.repository.config import ServedModelFacts, config_text, run_on_gpu
from export.repository.target import ServingTarget
from export.repository.targets.onnxruntime import onnxruntime_config
from export.repository.version_files import copy_graph

PRECISIONS = (Precision.FP16, Precision.FP32)
"""The CUDA provider has no product of INT8 matrices: it would make the whole table float at every request."""


def render(name: str, facts: ServedModelFacts, config: ExportConfig, version: int) -> str:
    """The configuration of a graph on the GPU."""
    model = onnxruntime_config(name, facts, config, version)
    return config_text(model, run_on_gpu(model))


def check_gpu(_artefact: Path, _manifest: Manifest, config: ExportConfig) -> None:
    """Raise RepositoryError where this machine has a driver or a GPU that cannot run the container."""
    gpu = find_gpu()
    faults = [] if gpu is None else gpu_faults(gpu, container_of(config.container))
    if faults:
        raise RepositoryError(f"target {config.target}: " + "; ".join(faults) + ". Nothing was copied")


SERVING_TARGETS.declare(
    "onnxruntime-cuda",
    ServingTarget(
        render,
        copy_graph,
        check_against_graph,
        front_door_runs_graph=False,
        gpu_runner="onnxruntime-cuda",
        precisions=PRECISIONS,
        check_fit=check_gpu,
    ),
)
