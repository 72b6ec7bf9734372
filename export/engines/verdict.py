"""TensorRT engines of all precisions, and, where there is a GPU for them, what each does to ranking and time."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distilrec.config import ExportConfig
from distilrec.core.errors import EngineError, MissingExtraError, PrecisionError
from distilrec.core.manifest import sha256_of_file
from distilrec.core.specs import Precision
from distilrec.evaluation.contract import BATCH_TOLERANCE, agreement, check_contract
from distilrec.evaluation.latency import p50_ms
from distilrec.evaluation.parity import edge_requests
from distilrec.evaluation.verdict import MeasuredPrecision, budget_faults, choose
from export.artefact import CALIBRATION_FILE, plan_path, tensorrt_path
from export.engines.backends import Backend, find_backend
from export.engines.build import build_engine
from export.engines.plan import CalibrationRecord, PlanManifest, read_plan_manifest, this_device, write_plan_manifest
from export.engines.runner import EngineRunner
from export.graph.precisions import CONTRACT_USERS, Judge, answers

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engines:
    """What came of the engines of an export."""

    built: Mapping[Precision, PlanManifest]
    refused: Mapping[Precision, str]
    measured: Sequence[MeasuredPrecision]
    """Empty without a GPU the plans are for."""

    def report(self) -> dict[str, Any]:
        """As it stands in report.json."""
        built = {precision.value: _facts(manifest) for precision, manifest in self.built.items()}
        return {
            "built": built,
            "refused": {precision.value: reason for precision, reason in self.refused.items()},
            "measured": {
                m.precision.value: {"p50_ms": m.p50_ms, **asdict(m.agreement), "budget_faults": budget_faults(m.agreement)}
                for m in self.measured
            },
            "verdict": asdict(choose(self.measured)) if self.measured else "not measured: no GPU here that the engines are for",
        }


def find_engine_backend(config: ExportConfig) -> Backend | None:
    """The TensorRT package to build with; None when the settings or the machine say to go without.

    Raises:
        MissingExtraError, EngineError: the settings name a package that is not there or cannot be used.
    """
    if config.engines == "off":
        return None
    try:
        return find_backend(config.engines)
    except (MissingExtraError, EngineError) as error:
        if config.engines != "auto":
            raise
        logger.info("export: without TensorRT engines. %s", error)
        return None


def make_engines(
    artefact: Path, judge: Judge, precisions: Sequence[Precision], *, vocabulary_sha256: str, config: ExportConfig, backend: Backend
) -> Engines:
    """Build a plan of each precision into the artefact, and measure them where they run.

    Args:
        artefact: folder of the export, with the models of ``precisions``.
        judge: what the engines are compared with.
        precisions: what to build, from the smallest to the reference.
        vocabulary_sha256: of the items they answer with.
        config: how to build, and whether engines were asked for by name.
        backend: TensorRT.

    Raises:
        EngineError, PrecisionError: an engine cannot be built, and the settings ask for engines by name.
        ParityError: an engine breaks the serving contract.
    """
    built, refused = {}, {}
    record = CalibrationRecord(method=config.calibration.method, sha256=sha256_of_file(artefact / CALIBRATION_FILE))
    for precision in precisions:
        path = plan_path(artefact, backend.name, precision)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            built[precision] = build_engine(
                tensorrt_path(artefact, precision),
                path,
                judge.spec,
                precision=precision,
                vocabulary_sha256=vocabulary_sha256,
                backend=backend,
                config=config.engine,
                calibration=record if precision is Precision.INT8 else None,
            )
        except (EngineError, PrecisionError) as error:
            if config.engines != "auto":
                raise
            refused[precision] = str(error)
            logger.warning("export: no %s engine: %s", precision.value, error)
    measured = _measure(artefact, judge, vocabulary_sha256, built) if _runs_here(backend, built) else []
    return Engines(built, refused, measured)


def _runs_here(backend: Backend, built: Mapping[Precision, PlanManifest]) -> bool:
    capability = this_device(backend).compute_capability
    return bool(built) and all(capability in manifest.compute_capabilities for manifest in built.values())


def _measure(
    artefact: Path, judge: Judge, vocabulary_sha256: str, built: Mapping[Precision, PlanManifest]
) -> list[MeasuredPrecision]:
    spec, users, expected = judge
    paths = {precision: plan_path(artefact, manifest.backend, precision) for precision, manifest in built.items()}
    runners = {p: EngineRunner(path, spec, vocabulary_sha256, cuda_graph_batches=(1,)) for p, path in paths.items()}
    history, exclude = (
        np.concatenate([edges, rows[:CONTRACT_USERS]])
        for edges, rows in zip(edge_requests(spec), (users.history, users.exclude), strict=True)
    )
    times = p50_ms(runners, users.history, users.exclude)
    measured = []
    for precision, runner in runners.items():
        check_contract(runner, spec, history, exclude, BATCH_TOLERANCE[precision])
        found = agreement(expected, answers(runner, users, f"engine {precision.value}"), users)
        manifest = read_plan_manifest(paths[precision])
        write_plan_manifest(paths[precision], manifest.model_copy(update={"agreement": asdict(found)}))
        measured.append(MeasuredPrecision(precision, times[precision], found))
    return measured


def _facts(manifest: PlanManifest) -> dict[str, Any]:
    return {
        "backend": f"{manifest.backend} {manifest.backend_version}",
        "compute_capabilities": list(manifest.compute_capabilities),
        "size_bytes": manifest.plan_size_bytes,
        "product_types": manifest.product_types,
    }
