"""TensorRT engines of all precisions, and what each does to ranking and time where there is a GPU for it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from distilrec.config import ExportConfig
from distilrec.core.errors import EngineError, MissingExtraError, PrecisionError
from distilrec.core.manifest import sha256_of_file
from distilrec.core.runner import Runner
from distilrec.core.specs import Precision
from distilrec.evaluation.verdict import PrecisionMeasurement
from export.artefact import CALIBRATION_FILE, plan_path, tensorrt_path
from export.engines.backends import Backend, find_backend
from export.engines.build import build_engine
from export.engines.plan import CalibrationRecord, PlanManifest, this_device, write_plan_manifest
from export.engines.runner import EngineRunner
from export.graph.precisions import Reference, measure

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineResults:
    """What an export has built, and measured of it."""

    built: Mapping[Precision, PlanManifest]
    refused: Mapping[Precision, str]
    """Reasons why precisions have no engine."""
    measured: Sequence[PrecisionMeasurement]
    """Empty without a GPU that the engines are for."""


def find_engine_backend(config: ExportConfig) -> Backend | None:
    """The TensorRT package to build with; None when the settings or the machine say to go without.

    Raises:
        MissingExtraError, EngineError: The settings name a package that is not installed or cannot be used.
    """
    if config.engines == "off":
        return None
    try:
        return find_backend(config.engines)
    except (MissingExtraError, EngineError) as error:
        if config.engines != "auto":
            raise
        logger.log(_level(logging.INFO), "export: without TensorRT engines. %s", error)
        return None


def _level(level: int) -> int:
    """Level of a message about engines that nobody has asked for by name: without a GPU it is of no use to a reader."""
    return level if torch.cuda.is_available() else logging.DEBUG


def make_engines(
    artefact: Path,
    reference: Reference,
    precisions: Sequence[Precision],
    *,
    vocabulary_sha256: str,
    config: ExportConfig,
    backend: Backend,
) -> EngineResults:
    """Build an engine of each precision into the artefact, and measure the engines where they run.

    Args:
        artefact: Folder of the export, with the graphs of ``precisions`` and the calibration set.
        reference: Answers that the engines are compared with.
        precisions: Precisions to build, from the smallest to FP32.
        vocabulary_sha256: Digest of the vocabulary that item indices belong to.
        config: How to build, and whether the builder was chosen by name.
        backend: TensorRT.

    Raises:
        EngineError, PrecisionError: An engine cannot be built, and the settings name the package that must build it.
        ParityError: An engine breaks the serving contract.
    """
    built, refused = {}, {}
    for precision in precisions:
        try:
            built[precision] = _build(
                artefact, precision, reference, vocabulary_sha256=vocabulary_sha256, config=config, backend=backend
            )
            _warn_of_second_table(built[precision])
        except (EngineError, PrecisionError) as error:
            if config.engines != "auto":
                raise
            refused[precision] = str(error)
            logger.log(_level(logging.WARNING), "export: no %s engine: %s", precision.value, error)
    measured = _measure(artefact, reference, vocabulary_sha256, built) if _runs_here(backend, built) else []
    return EngineResults(built, refused, measured)


def _warn_of_second_table(manifest: PlanManifest) -> None:
    """Say where an INT8 engine keeps the table as floats, too: with many items that is most of its memory."""
    for node, types in (manifest.table_types or {}).items():
        if manifest.precision is Precision.INT8 and types != "Int8":
            logger.warning(
                "export: the INT8 engine looks rows up in a table of type %s (%s), so it keeps the table twice", types, node
            )


def _build(
    artefact: Path, precision: Precision, reference: Reference, *, vocabulary_sha256: str, config: ExportConfig, backend: Backend
) -> PlanManifest:
    calibration = None
    if precision is Precision.INT8:
        calibration = CalibrationRecord(method=config.calibration.method, sha256=sha256_of_file(artefact / CALIBRATION_FILE))
    path = plan_path(artefact, backend.name, precision)
    path.parent.mkdir(parents=True, exist_ok=True)
    return build_engine(
        tensorrt_path(artefact, precision),
        path,
        reference.spec,
        precision=precision,
        vocabulary_sha256=vocabulary_sha256,
        backend=backend,
        config=config.engine,
        calibration=calibration,
    )


def _runs_here(backend: Backend, built: Mapping[Precision, PlanManifest]) -> bool:
    capability = this_device(backend).compute_capability
    return bool(built) and all(capability in manifest.compute_capabilities for manifest in built.values())


def _measure(
    artefact: Path, reference: Reference, vocabulary_sha256: str, built: Mapping[Precision, PlanManifest]
) -> list[PrecisionMeasurement]:
    """Measure all engines, and record the agreement with FP32 in their manifests."""
    paths = {precision: plan_path(artefact, manifest.backend, precision) for precision, manifest in built.items()}
    runners: dict[Precision, Runner] = {
        precision: EngineRunner(path, reference.spec, vocabulary_sha256, cuda_graph_batches=(1,))
        for precision, path in paths.items()
    }
    measured = measure(runners, reference, "engine ")
    for engine in measured:
        manifest = built[engine.precision].model_copy(update={"agreement": asdict(engine.agreement)})
        write_plan_manifest(paths[engine.precision], manifest)
    return measured
