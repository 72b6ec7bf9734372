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
from distilrec.evaluation.verdict import MeasuredPrecision, Verdict, budget_faults
from export.artefact import REPORT_FILE, model_size_bytes


def write_report(
    artefact: Path,
    measured: Sequence[MeasuredPrecision],
    refused: Mapping[Precision, str],
    verdict: Verdict,
    *,
    int8: Mapping[str, Any],
    engines: Mapping[str, Any] | None,
) -> None:
    """Write the report beside the models.

    Args:
        artefact: folder of the export.
        measured: precisions in ONNX Runtime on this machine.
        refused: precisions that could not be made, with the reason.
        verdict: what is served and why.
        int8: what else was found of INT8.
        engines: what came of the TensorRT engines; None without any.
    """
    precisions: dict[str, Any] = {m.precision.value: _measurements(artefact, m) for m in measured}
    precisions |= {precision.value: {"refused": reason} for precision, reason in refused.items()}
    report = {
        "target": "onnxruntime, CPU, one thread",
        "machine": {"processor": processor(), "system": platform.platform()},
        "precisions": precisions,
        "int8": dict(int8),
        "verdict": asdict(verdict),
        "engines": engines,
    }
    write_text(artefact / REPORT_FILE, json.dumps(report, indent=2) + "\n")


def _measurements(artefact: Path, measured: MeasuredPrecision) -> dict[str, Any]:
    return {
        "p50_ms": measured.p50_ms,
        "size_bytes": model_size_bytes(artefact, measured.precision),
        **asdict(measured.agreement),
        "budget_faults": budget_faults(measured.agreement),
    }
