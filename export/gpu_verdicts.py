"""Which precision each target on a GPU serves: measured where this machine has the GPU, else unmeasured, and said so."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from distilrec.config.export import SERVING_TARGETS
from distilrec.core.errors import ParityError
from distilrec.core.runner import Runner
from distilrec.core.specs import MODEL_FILE, Precision, RecommenderSpec
from distilrec.evaluation.verdict import PrecisionMeasurement, Verdict, choose_precision
from export.artefact import model_path, tensorrt_files
from export.engines.precisions import EngineResults
from export.graph.onnx_runner import OnnxRunner
from export.graph.precisions import Reference, measure
from export.graph.providers import NAMES, Provider
from export.repository.target import UNMEASURED

logger = logging.getLogger(__name__)

_PROVIDERS: dict[str, Provider] = {"onnxruntime-cuda": "cuda", "onnxruntime-tensorrt": "tensorrt"}
"""Provider of ONNX Runtime by the name of the target that it measures."""

_ENGINES = "tensorrt"
"""Name of the target that TensorRT's engines measure, and of the package that builds them."""


@dataclass(frozen=True)
class GpuVerdict:
    """What is known of one target on a GPU."""

    measured: Sequence[PrecisionMeasurement]
    """Empty where it was not measured here."""
    verdict: Verdict[Precision] | None
    """None where it was not measured here."""
    reason: str


def gpu_verdicts(
    artefact: Path, reference: Reference, made: Sequence[Precision], engines: EngineResults | None
) -> dict[str, GpuVerdict]:
    """Measure each target on a GPU where this machine can, by the target's name.

    Args:
        artefact: Folder of the export, with the graphs of ``made``.
        reference: Answers that all precisions are compared with.
        made: Precisions of the export, from the smallest to FP32.
        engines: Results of the TensorRT engines; None where none were to be built.
    """
    verdicts = {}
    for name in SERVING_TARGETS:
        target = SERVING_TARGETS[name]
        if target.gpu_runner is None:
            continue
        precisions = [precision for precision in made if precision in target.precisions]
        verdicts[name] = _verdict(target.gpu_runner, artefact, reference, precisions, engines)
    return verdicts


def measured_precisions(verdicts: Mapping[str, GpuVerdict]) -> dict[str, str]:
    """The precisions that were measured, by target: what the manifest keeps, and the model repository reads."""
    return {name: found.verdict.choice.value for name, found in verdicts.items() if found.verdict is not None}


def _verdict(
    runner: str, artefact: Path, reference: Reference, precisions: Sequence[Precision], engines: EngineResults | None
) -> GpuVerdict:
    """Measure one target; a provider that is there but fails is reported, and does not end the export."""
    if runner == _ENGINES:
        built = engines is not None and any(manifest.backend == _ENGINES for manifest in engines.built.values())
        return _judge(engines.measured) if engines is not None and built and engines.measured else _unmeasured(runner)
    provider = _PROVIDERS.get(runner)
    if provider is None or NAMES[provider] not in onnxruntime.get_available_providers():
        return _unmeasured(runner)
    try:
        return _judge(measure(provider_runners(artefact, reference.spec, precisions, provider), reference, f"{provider} "))
    except ParityError as error:
        logger.warning("export: target %s was not measured: %s", runner, error)
        return GpuVerdict([], None, f"unmeasured: {error}")


def provider_runners(
    artefact: Path, spec: RecommenderSpec, precisions: Sequence[Precision], provider: Provider
) -> dict[Precision, Runner]:
    """ONNX Runtime with one of its providers, for each precision, on the graph that the provider is served with."""
    paths = {
        precision: tensorrt_files(artefact, precision)[MODEL_FILE] if provider == "tensorrt" else model_path(artefact, precision)
        for precision in precisions
    }
    return {precision: OnnxRunner(path, spec, provider=provider) for precision, path in paths.items()}


def _judge(measured: Sequence[PrecisionMeasurement]) -> GpuVerdict:
    verdict = choose_precision(measured)
    return GpuVerdict(measured, verdict, verdict.reason)


def _unmeasured(name: str) -> GpuVerdict:
    reason = (
        f"unmeasured: {UNMEASURED.value} is the default until `distilrec export --target {name}` has run on the GPU that serves"
    )
    return GpuVerdict([], None, reason)
