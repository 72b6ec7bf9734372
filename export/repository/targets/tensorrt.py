"""Serving target ``tensorrt``: an engine that NVIDIA TensorRT has built, in Triton's TensorRT backend, on a GPU."""

import logging
import shutil
from pathlib import Path

from tritonclient.grpc import model_config_pb2

from distilrec.config import ExportConfig
from distilrec.config.export import SERVING_TARGETS
from distilrec.core.errors import RepositoryError
from distilrec.core.manifest import Manifest
from distilrec.core.specs import PLAN_FILE, Precision, RecommenderSpec
from export.artefact import plan_path
from export.engines.containers import container_of, gpu_faults, plan_faults
from export.engines.host import find_gpu
from export.engines.plan import manifest_path, read_plan_manifest
from export.repository.check import check_against_engine
from export.repository.config import ServedModelFacts, config_text, recommender_config, run_on_gpu
from export.repository.target import ServingTarget

logger = logging.getLogger(__name__)

BUILDER = "tensorrt"
"""Triton has no backend for the engines of TensorRT for RTX."""


def render(name: str, facts: ServedModelFacts, config: ExportConfig, version: int) -> str:
    """The configuration of an engine, with CUDA graphs and pinned memory."""
    model = recommender_config(name, facts, config, version)
    model.platform, model.default_model_filename = "tensorrt_plan", PLAN_FILE
    cuda = model.optimization.cuda
    cuda.graphs = cuda.output_copy_stream = True
    add_cuda_graphs(cuda, facts.spec, config.max_batch_size)
    model.optimization.input_pinned_memory.enable = model.optimization.output_pinned_memory.enable = True
    return config_text(model, run_on_gpu(model))


def add_cuda_graphs(cuda: model_config_pb2.ModelOptimizationPolicy.Cuda, spec: RecommenderSpec, max_batch_size: int) -> None:
    """Capture graphs for batches of 1, 2, 4, 8, ... rows up to the largest; each serves all batches above the next smaller one.

    Without specifications Triton captures batches of 1 and of the largest size only, and matches them exactly, so nearly all
    batches would launch kernel by kernel. Rows that a batch leaves over hold whatever was there before. That is safe here: rows do
    not depend on each other, and item indices out of range count as padding.
    """
    sizes = [1]
    while sizes[-1] < max_batch_size:
        sizes.append(min(2 * sizes[-1], max_batch_size))
    for smaller, size in zip([0, *sizes], sizes, strict=False):
        graph = cuda.graph_spec.add(batch_size=size)
        bound = graph.graph_lower_bound
        bound.batch_size = smaller + 1
        for tensor in spec.inputs:
            for shapes in (graph.input, bound.input):
                shapes[tensor.name].dim.extend(tensor.shape)


def check_fit(artefact: Path, manifest: Manifest, config: ExportConfig) -> None:
    """Refuse a plan that the container's TensorRT would refuse, and a driver or GPU that cannot run the container.

    Raises:
        RepositoryError: There is no plan, or it does not fit; all reasons are listed, with the command that builds the right one.
        EngineError: The plan's manifest cannot be read.
    """
    plan, container = _plan(artefact, manifest), container_of(config.container)
    if not plan.is_file():
        raise RepositoryError(
            f"{artefact}: found no {plan.relative_to(artefact)}, expected an engine for the target tensorrt. Build it on the GPU"
            f" that serves, with the TensorRT of its container: {container.build_command}"
        )
    gpu = find_gpu()
    faults = plan_faults(read_plan_manifest(plan), container) + ([] if gpu is None else gpu_faults(gpu, container))
    if faults:
        raise RepositoryError(
            f"{plan} does not fit release {container.release} of NVIDIA's container (export.container):\n  "
            + "\n  ".join(faults)
            + f"\nNothing was copied. Build the plan in that release, on the GPU that serves: {container.build_command}"
        )
    if not container.exact:
        logger.warning(
            "export: the plan's TensorRT has the major version of release %s; whether it is exactly the same is known only in the"
            " container. Build it there to be sure: %s",
            container.release,
            container.build_command,
        )


def write(artefact: Path, manifest: Manifest, folder: Path) -> None:
    """Copy the engine of the precision that is served, and its manifest."""
    plan = _plan(artefact, manifest)
    shutil.copyfile(plan, folder / PLAN_FILE)
    shutil.copyfile(manifest_path(plan), manifest_path(folder / PLAN_FILE))


def _plan(artefact: Path, manifest: Manifest) -> Path:
    return plan_path(artefact, BUILDER, Precision(manifest.metrics["precision"]))


SERVING_TARGETS.declare(
    "tensorrt",
    ServingTarget(render, write, check_against_engine, front_door_runs_graph=False, gpu_runner="tensorrt", check_fit=check_fit),
)
