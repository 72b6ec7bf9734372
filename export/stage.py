"""Stage ``export``: the student as ONNX in all precisions, proved, measured, and one of them chosen to be served."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.models.encoders import Encoder, Recommender
from distill.models.runner import TorchRunner
from distill.models.students.build import load_student
from distilrec.config import Config
from distilrec.core import golden
from distilrec.core.errors import CalibrationError, PrecisionError
from distilrec.core.machine import processor
from distilrec.core.manifest import Manifest, sha256_of_file
from distilrec.core.specs import Precision, RecommenderSpec
from distilrec.core.stage import Inputs, run_stage
from distilrec.data import stage as data_stage
from distilrec.data import vocabulary as vocabularies
from distilrec.data.dataset import Dataset, HeldOut, held_out
from distilrec.evaluation.parity import SCORE_TOLERANCE, Parity, check_parity, edge_requests
from distilrec.evaluation.verdict import Measured, Verdict, budget_faults, choose
from export.artefact import CALIBRATION_FILE, model_path
from export.engines.verdict import find_engine_backend, make_engines
from export.graph import calibration
from export.graph.onnx import OPSET, export_onnx
from export.graph.onnx_runner import OnnxRunner
from export.graph.precisions import (
    SMALLEST_FIRST,
    Judge,
    Quantization,
    answers,
    costliest_layer,
    make_precisions,
    measure,
    saturation,
)
from export.report import write_report

logger = logging.getLogger(__name__)

_PARITY_USERS = 200
_GOLDEN_USERS = 59


def recommender_spec(config: Config, item_count: int) -> RecommenderSpec:
    """Sizes of the served model."""
    return RecommenderSpec(item_count, config.history_length, config.export.exclude_length, min(config.export.top_k, item_count))


def run(config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Export the student. Inputs: data, student; reference (an earlier export) when the student was trained anew for INT8.

    Raises:
        ParityError: ONNX Runtime does not answer as PyTorch does, or a precision breaks the serving contract.
        CalibrationError: the calibration data cannot be used.
        EngineError: an engine that the settings ask for cannot be built.
        No artefact is left behind then, and a former one stays.
    """
    backend = find_engine_backend(config.export)

    def work(folder: Path, scratch: Path) -> dict[str, Any]:
        dataset, vocabulary = data_stage.load(inputs["data"])
        spec = recommender_spec(config, len(vocabulary))
        quantization = Quantization(_calibration_set(config, dataset, spec, vocabulary.sha256), config.export.calibration)
        quantization.data.save(folder / CALIBRATION_FILE)
        vocabulary.save(folder / vocabularies.FILE_NAME)

        student = load_student(config, inputs["student"], len(vocabulary))
        metadata = {"vocabulary_sha256": vocabulary.sha256, "item_count": str(spec.item_count), "precision": Precision.FP32.value}
        fp32 = model_path(folder, Precision.FP32)
        fp32.parent.mkdir()
        export_onnx(Recommender(student, spec).eval(), fp32, metadata)
        users = held_out(dataset, "validation", spec)
        parity = _prove_parity(student, fp32, spec, users)

        reference = OnnxRunner(model_path(inputs.get("reference", folder), Precision.FP32), spec)
        judge = Judge(spec, users, answers(reference, users, "reference"))
        refused = make_precisions(folder, quantization)
        measured = measure(folder, judge, [precision for precision in SMALLEST_FIRST if precision not in refused])
        verdict = _verdict(config, measured)
        logger.info("export: %s", verdict.reason)
        int8 = _examine_int8(folder, judge, measured, quantization, scratch)
        engines = None
        if backend is not None:
            made = [m.precision for m in measured]
            engines = make_engines(
                folder, judge, made, vocabulary_sha256=vocabulary.sha256, config=config.export, backend=backend
            ).report()
        _write_golden(folder, verdict.precision, judge)
        write_report(folder, measured, refused, verdict, int8=int8, engines=engines)
        return {
            "item_count": spec.item_count,
            "vocabulary_sha256": vocabulary.sha256,
            "parity_rows": parity.rows,
            "parity_max_score_error": parity.max_score_error,
            "parity_tied_items": parity.tied,
            "precision": verdict.precision.value,
            "int8_within_budget": int8.get("within_budget"),
        }

    settings = {
        "history_length": config.history_length,
        "exclude_length": config.export.exclude_length,
        "top_k": config.export.top_k,
        "opset": OPSET,
        "precision": config.export.precision,
        # What is fastest here need not be so elsewhere.
        "measured_on": processor() if config.export.precision == "auto" else None,
        "calibration": config.export.calibration.model_dump(mode="json", exclude={"requests"}),
        "calibration_requests_sha256": _digest(config.export.calibration.requests),
        "score_tolerance": SCORE_TOLERANCE,
        "engine": config.export.engine.model_dump(mode="json") | {"asked": config.export.engines} if backend else None,
        "engine_backend": f"{backend.name} {backend.version}" if backend else None,
    }
    return run_stage("export", settings=settings, seed=config.seed, inputs=inputs, out_dir=out_dir, work=work)


def _calibration_set(config: Config, dataset: Dataset, spec: RecommenderSpec, vocabulary_sha256: str) -> calibration.CalibrationSet:
    settings = config.export.calibration
    if settings.requests is not None:
        return calibration.load_calibration(settings.requests, spec, vocabulary_sha256)
    return calibration.sample_calibration(dataset, spec, vocabulary_sha256, settings.samples, config.seed)


def _prove_parity(student: Encoder, model: Path, spec: RecommenderSpec, users: HeldOut) -> Parity:
    edge_history, edge_exclude = edge_requests(spec)
    history = np.concatenate([edge_history, users.history[:_PARITY_USERS]])
    exclude = np.concatenate([edge_exclude, users.exclude[:_PARITY_USERS]])
    return check_parity(TorchRunner(student, spec), OnnxRunner(model, spec), history, exclude)


def _write_golden(folder: Path, precision: Precision, judge: Judge) -> None:
    """Requests with the answers of the precision that is served: at the contract's edges, and of users."""
    history, exclude = (
        np.concatenate([edges, rows[:_GOLDEN_USERS]])
        for edges, rows in zip(edge_requests(judge.spec), (judge.users.history, judge.users.exclude), strict=True)
    )
    items, scores = OnnxRunner(model_path(folder, precision), judge.spec).recommend(history, exclude)
    golden.Golden(history, exclude, items, scores).save(folder / golden.FILE_NAME)


def _examine_int8(
    folder: Path, judge: Judge, measured: Sequence[Measured], quantization: Quantization, scratch: Path
) -> dict[str, Any]:
    """What else there is to know of INT8; nothing where it could not be made."""
    int8 = next((m for m in measured if m.precision is Precision.INT8), None)
    if int8 is None:
        return {}
    findings: dict[str, Any] = {"saturation": saturation(folder, judge), "within_budget": not budget_faults(int8.agreement)}
    if not findings["within_budget"]:
        layer, overlap = costliest_layer(folder, judge, quantization, scratch)
        findings["costliest_layer"] = {"layer": layer, "overlap_at_10_without_it": overlap}
        logger.info("export: INT8 costs most in layer %s; with that in FP32 it keeps %.3f of the top 10", layer, overlap)
    return findings


def _verdict(config: Config, measured: list[Measured]) -> Verdict:
    if config.export.precision == "auto":
        return choose(measured)
    asked = Precision(config.export.precision)
    if asked not in (m.precision for m in measured):
        raise PrecisionError(f"export.precision = {asked.value!r} was asked for, but cannot be made (the reason stands above)")
    return Verdict(asked, f"{asked.value} ships: the settings ask for it")


def _digest(path: Path | None) -> str | None:
    if path is None:
        return None
    if not path.is_file():
        raise CalibrationError(f"export.calibration.requests: found no file {path}, expected a calibration set (.npz)")
    return sha256_of_file(path)
