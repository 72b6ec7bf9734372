"""report.json: what was measured of each precision, and why one of them is served."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distilrec.core.files import write_text
from distilrec.core.machine import processor
from distilrec.core.specs import Precision
from distilrec.evaluation.verdict import PrecisionMeasurement, Verdict, budget_faults, choose_precision
from export.artefact import REPORT_FILE, model_size_bytes
from export.engines.plan import PlanManifest
from export.engines.precisions import EngineResults
from export.gpu_verdicts import GpuVerdict
from export.heads.choose import HeadResult


def write_report(
    artefact: Path,
    measured: Sequence[PrecisionMeasurement],
    refused: Mapping[Precision, str],
    verdict: Verdict[Precision],
    *,
    student: Mapping[str, Any],
    int8: Mapping[str, Any],
    engines: EngineResults | None,
    gpu: Mapping[str, GpuVerdict],
    head: HeadResult | None = None,
) -> None:
    """Write the report into the artefact.

    Args:
        artefact: Folder of the export.
        measured: Measurements of all precisions in ONNX Runtime on this machine.
        refused: Reasons why precisions could not be made.
        verdict: The precision that is served, and why.
        student: Which student ships ("ships"), why ("reason"), and whether the other one ranks better ("ranks_worse"), JSON-ready.
        int8: Further findings about INT8, ready for JSON.
        engines: Results of the TensorRT engines; None where none were to be built.
        gpu: What is known of the targets on a GPU, by name.
        head: What is known of the approximate head; None where none was considered.
    """
    precisions = {m.precision.value: {**_measurement(m), "size_bytes": model_size_bytes(artefact, m.precision)} for m in measured}
    report = {
        "target": "onnxruntime, CPU, one thread",
        "machine": {"processor": processor(), "system": platform.platform()},
        "precisions": precisions | {precision.value: {"refused": reason} for precision, reason in refused.items()},
        "int8": dict(int8),
        "student": dict(student),
        "verdict": _verdict(verdict),
        **({} if head is None else {"head": _head(head)}),
        "engines": None if engines is None else _engines(engines),
        "gpu_targets": {name: _gpu_target(found) for name, found in gpu.items()},
    }
    write_text(artefact / REPORT_FILE, json.dumps(report, indent=2) + "\n")


def _measurement(measured: PrecisionMeasurement) -> dict[str, Any]:
    agreement = measured.agreement
    return {"p50_ms": measured.p50_ms, **asdict(agreement), "budget_faults": budget_faults(agreement)}


def _head(found: HeadResult) -> dict[str, Any]:
    """The verdict on the approximate head and its measurements, ready for JSON."""
    measured = found.measured
    figures = {}
    if measured is not None:
        times = {"p50_ms": measured.p50_ms, "exhaustive_p50_ms": measured.exhaustive_p50_ms}
        figures = {**times, **asdict(measured.agreement)}
    return {"head": found.verdict.choice.value, "reason": found.verdict.reason, **(found.facts or {}), **figures}


def _verdict(verdict: Verdict[Precision]) -> dict[str, str]:
    return {"precision": verdict.choice.value, "reason": verdict.reason}


def _engines(engines: EngineResults) -> dict[str, Any]:
    measured = engines.measured
    return {
        "built": {precision.value: _plan(manifest) for precision, manifest in engines.built.items()},
        "refused": {precision.value: reason for precision, reason in engines.refused.items()},
        "measured": {m.precision.value: _measurement(m) for m in measured},
        "verdict": _verdict(choose_precision(measured)) if measured else "not measured: no GPU here that the engines are for",
    }


def _gpu_target(found: GpuVerdict) -> dict[str, Any]:
    return {"measured": {m.precision.value: _measurement(m) for m in found.measured}, "verdict": found.reason}


def _plan(manifest: PlanManifest) -> dict[str, Any]:
    return {
        "backend": f"{manifest.backend} {manifest.backend_version}",
        "compute_capabilities": list(manifest.compute_capabilities),
        "size_bytes": manifest.plan_size_bytes,
        "product_types": manifest.product_types,
    }
