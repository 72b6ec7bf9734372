"""Serving target ``tensorrt``: an engine that NVIDIA TensorRT has built, in Triton's TensorRT backend, on a GPU."""

import shutil
from pathlib import Path

from distilrec.config import ExportConfig
from distilrec.config.export import SERVING_TARGETS
from distilrec.core.errors import RepositoryError
from distilrec.core.manifest import Manifest
from distilrec.core.specs import PLAN_FILE, Precision
from export.artefact import plan_path
from export.engines.plan import manifest_path
from export.repository.check import check_against_engine
from export.repository.config import ServedModelFacts, config_text, recommender_config, run_on_gpu
from export.repository.target import ServingTarget

_BUILDER = "tensorrt"
"""Triton has no backend for the engines of TensorRT for RTX."""


def render(name: str, facts: ServedModelFacts, config: ExportConfig, version: int) -> str:
    """The configuration of an engine, with CUDA graphs and pinned memory."""
    model = recommender_config(name, facts, config, version)
    model.platform, model.default_model_filename = "tensorrt_plan", PLAN_FILE
    cuda = model.optimization.cuda
    cuda.graphs = cuda.output_copy_stream = True
    model.optimization.input_pinned_memory.enable = model.optimization.output_pinned_memory.enable = True
    return config_text(model, run_on_gpu(model))


def write(artefact: Path, manifest: Manifest, folder: Path) -> None:
    """Copy the engine of the precision that is served, and its manifest.

    Raises:
        RepositoryError: The artefact has no such engine.
    """
    plan = plan_path(artefact, _BUILDER, Precision(manifest.metrics["precision"]))
    if not plan.is_file():
        raise RepositoryError(
            f"{artefact}: found no {plan.relative_to(artefact)}, expected an engine for the target tensorrt. Build it on the GPU"
            " that serves, with the TensorRT of its container: set export.engines to tensorrt and run distilrec export"
        )
    shutil.copyfile(plan, folder / PLAN_FILE)
    shutil.copyfile(manifest_path(plan), manifest_path(folder / PLAN_FILE))


SERVING_TARGETS.declare("tensorrt", ServingTarget(render, write, check_against_engine, front_door_runs_graph=False))
