"""Stage ``export``: writes the student as ONNX in all precisions, proves and measures them, and chooses the one to serve."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from distill.models.encoders import Encoder
from distill.models.runner import TorchRunner
from distill.models.students.build import load_student
from distilrec.config import Config, choice_sizes, spec_of_run
from distilrec.config.section import declarations_of
from distilrec.core import golden
from distilrec.core.errors import CalibrationError, PrecisionError
from distilrec.core.machine import processor
from distilrec.core.manifest import Manifest, read_manifest, sha256_of_file
from distilrec.core.runner import Runner
from distilrec.core.specs import Head, Precision, RecommenderSpec
from distilrec.core.stage import Inputs, run_stage
from distilrec.data import item_filters
from distilrec.data import stage as data_stage
from distilrec.data import vocabulary as vocabularies
from distilrec.data.dataset import Dataset, HeldOut, held_out, without_answers
from distilrec.data.item_filters import ItemFilters
from distilrec.data.vocabulary import Vocabulary
from distilrec.evaluation import ranking_record
from distilrec.evaluation.parity import SCORE_TOLERANCE, Parity, check_parity
from distilrec.evaluation.ranking_record import record_ranking
from distilrec.evaluation.verdict import PrecisionMeasurement, Verdict, budget_faults, choose_precision
from export.artefact import CALIBRATION_FILE, head_folder, model_folder, model_path
from export.engines.backends import Backend
from export.engines.host import find_gpu
from export.engines.precisions import EngineResults, find_engine_backend, make_engines
from export.gpu_verdicts import gpu_verdicts, measured_precisions
from export.graph import calibration
from export.graph.onnx import OPSET, export_onnx
from export.graph.onnx_runner import OnnxRunner
from export.graph.precisions import (
    SMALLEST_FIRST,
    Quantization,
    Reference,
    answers,
    costliest_layer,
    edge_and_user_requests,
    make_precisions,
    measure,
    onnx_runners,
    saturation,
)
from export.heads.choose import HeadJob, HeadResult, considers_heads, make_head
from export.heads.made_of import HeadInput
from export.report import write_report

logger = logging.getLogger(__name__)

_PARITY_USERS = 200
"""Validation users whose answers of ONNX Runtime are compared with PyTorch's, in addition to the contract's edges."""

_GOLDEN_USERS = 59
"""Validation users among the golden requests: 64 requests with the five at the contract's edges."""


_NOT_MADE = "not made: what is served is the approximate head of an earlier export"
"""Why a refresh has no graphs but that in FP32 where the index was taken over."""


def run(config: Config, inputs: Inputs, out_dir: Path, *, max_users: int | None = None) -> Manifest:
    """Export the student.

    Args:
        config: Settings of the run.
        inputs: Folders of the stage ``data``, of the student that ships, and of the ``verdict`` on it; also ``reference``, an
            earlier export whose FP32 all precisions are compared with, where the student was trained further for INT8; also
            ``former``, an earlier export with an approximate head that is taken over where few items have changed since.
        out_dir: Folder of the artefact. A former one stays when the export fails.
        max_users: Most validation users that precisions are measured by; None for all.

    Raises:
        ParityError: ONNX Runtime does not answer as PyTorch does, or a precision breaks the serving contract.
        CalibrationError: The calibration data cannot be used.
        PrecisionError: The precision that the settings name cannot be made.
        EngineError: An engine that the settings ask for cannot be built.
    """
    backend = find_engine_backend(config.export)

    def work(folder: Path, scratch: Path) -> dict[str, Any]:
        return _export(config, inputs, backend, folder, scratch, max_users=max_users)

    return run_stage(
        "export",
        settings=_settings(config, backend)
        | ({} if max_users is None else {"max_users": max_users})
        | {name: _student_verdict(inputs)[name] for name in ("ships", "ranks_worse")},
        seed=config.seed,
        inputs=inputs,
        out_dir=out_dir,
        work=work,
        declarations=declarations_of(config.student),
    )


def _settings(config: Config, backend: Backend | None) -> dict[str, Any]:
    """What the artefact depends on besides its inputs, ready for JSON."""
    export, gpu = config.export, find_gpu()
    return {
        "history_length": config.history_length,
        "exclude_length": export.exclude_length,
        "top_k": export.top_k,
        **choice_sizes(config),
        "opset": OPSET,
        "precision": export.precision,
        **({"head": export.head} if export.head != "auto" else {}),
        # What is fastest here need not be so elsewhere.
        "measured_on": processor() if export.precision == "auto" else None,
        **({} if gpu is None else {"gpu": [gpu.name, gpu.driver, *onnxruntime.get_available_providers()]}),
        "calibration": export.calibration.model_dump(mode="json", exclude={"requests"}),
        "calibration_requests_sha256": _digest(export.calibration.requests),
        "score_tolerance": SCORE_TOLERANCE,
        "engine": export.engine.model_dump(mode="json") | {"asked": export.engines} if backend else None,
        "engine_backend": f"{backend.name} {backend.version}" if backend else None,
    }


def _student_verdict(inputs: Inputs) -> dict[str, Any]:
    """What ships and why, and the verdict on an update. Figures are not settings: they may change while the same student ships."""
    metrics = read_manifest(inputs["verdict"]).metrics
    update = {"update": metrics["update"]} if "update" in metrics else {}
    return {name: metrics[name] for name in ("ships", "ranks_worse", "reason")} | update


def _export(
    config: Config, inputs: Inputs, backend: Backend | None, folder: Path, scratch: Path, *, max_users: int | None
) -> dict[str, Any]:
    """Write the artefact into ``folder``; returns the metrics for its manifest."""
    job, quantization, parity = _prepare(config, inputs, folder, max_users)
    reference, spec, sha256 = job.reference, job.made_of.spec, job.made_of.vocabulary_sha256
    fp32 = onnx_runners(folder, spec, [Precision.FP32])[Precision.FP32]
    head = make_head(job, fp32, head_folder(inputs["former"])) if "former" in inputs else None
    grown = head is not None and head.verdict.choice is Head.APPROXIMATE
    refused = dict.fromkeys((Precision.INT8, Precision.FP16), _NOT_MADE) if grown else make_precisions(folder, quantization)
    made = [precision for precision in SMALLEST_FIRST if precision not in refused]
    measured = measure(onnx_runners(folder, spec, made), reference)
    verdict = _verdict(config, measured, grown=grown)
    logger.info("export: %s", verdict.reason)
    if head is None and considers_heads(config.export, spec.item_count):
        head = make_head(job, onnx_runners(folder, spec, [verdict.choice])[verdict.choice])
    int8 = _examine_int8(folder, reference, measured, quantization, scratch)
    engines: EngineResults | None = None
    if backend is not None:
        engines = make_engines(folder, reference, made, vocabulary_sha256=sha256, config=config.export, backend=backend)
    gpu = gpu_verdicts(folder, reference, made, engines)
    _write_proofs(folder, verdict.choice, made, reference, sha256)
    shipped = {} if head is None else _ship_head(job, head)
    student_verdict = _student_verdict(inputs)
    write_report(folder, measured, refused, verdict, student=student_verdict, int8=int8, engines=engines, gpu=gpu, head=head)
    return {
        "item_count": spec.item_count,
        "vocabulary_sha256": sha256,
        **parity.metrics(),
        "precision": verdict.choice.value,
        **shipped,
        "int8_within_budget": int8.get("within_budget"),
        **({"gpu_precisions": on_gpu} if (on_gpu := measured_precisions(gpu)) else {}),
        **({} if reference.filters is None else {"filters": reference.filters.values.values}),
    }


def _prepare(config: Config, inputs: Inputs, folder: Path, max_users: int | None) -> tuple[HeadJob, Quantization, Parity]:
    """Write calibration, vocabulary, filters and the graph in FP32, and ask the reference for its answers to validation users."""
    dataset, vocabulary = data_stage.load(inputs["data"])
    spec = spec_of_run(config, len(vocabulary))
    quantization = Quantization(_calibration_set(config, dataset, spec, vocabulary.sha256), config.export.calibration)
    quantization.data.save(folder / CALIBRATION_FILE)
    vocabulary.save(folder / vocabularies.FILE_NAME)
    users = without_answers(held_out(dataset, "validation", spec, max_users), vocabulary.retired_indices())
    student = load_student(config, inputs["student"], len(vocabulary))
    filters = data_stage.filters_of(inputs["data"])
    if filters is not None:
        filters.save(folder / item_filters.FILE_NAME)
    parity = _export_fp32(student, vocabulary, spec, users, folder, filters=filters)
    fp32 = OnnxRunner(model_path(inputs.get("reference", folder), Precision.FP32), spec)
    reference = Reference(spec, users, answers(fp32, users, "reference"), filters)
    made_of = HeadInput(student, spec, vocabulary.sha256, filters, vocabulary.retired_indices())
    return HeadJob(folder, made_of, reference, dataset, config.export, config.seed), quantization, parity


def _ship_head(job: HeadJob, head: HeadResult) -> dict[str, str]:
    """Write the proofs of an approximate head that ships; returns what the manifest says of it."""
    logger.info("export: %s", head.verdict.reason)
    if head.verdict.choice is Head.EXHAUSTIVE:
        return {}
    _write_proof(job.runner(), job.place, job.reference, job.made_of.vocabulary_sha256)
    return {"head": head.verdict.choice.value}


def _calibration_set(config: Config, dataset: Dataset, spec: RecommenderSpec, vocabulary_sha256: str) -> calibration.CalibrationSet:
    settings = config.export.calibration
    if settings.requests is not None:
        return calibration.load_calibration(settings.requests, spec, vocabulary_sha256)
    return calibration.sample_calibration(dataset, spec, vocabulary_sha256, settings.samples, config.seed)


def _export_fp32(
    student: Encoder,
    vocabulary: Vocabulary,
    spec: RecommenderSpec,
    users: HeldOut,
    folder: Path,
    *,
    filters: ItemFilters | None,
) -> Parity:
    """Write the student as ONNX in FP32, and prove that ONNX Runtime answers as PyTorch does."""
    path = model_path(folder, Precision.FP32)
    path.parent.mkdir()
    metadata = {"vocabulary_sha256": vocabulary.sha256, "item_count": str(spec.item_count), "precision": Precision.FP32.value}
    runner = TorchRunner(student, spec, filters, retired=vocabulary.retired_indices())
    export_onnx(runner.recommender, path, metadata)
    return check_parity(runner, OnnxRunner(path, spec), *edge_and_user_requests(spec, users, _PARITY_USERS, filters))


def _write_proofs(folder: Path, served: Precision, made: Sequence[Precision], reference: Reference, vocabulary_sha256: str) -> None:
    """Write what travels with a precision that is served: requests with its answers, and how well it ranks.

    The requests are those at the contract's edges and of users. Proofs of ``served`` lie in the artefact itself; the others, which
    targets on a GPU may serve, lie in their precision's folder.
    """
    for precision in made:
        place = folder if precision is served else model_folder(folder, precision)
        _write_proof(OnnxRunner(model_path(folder, precision), reference.spec), place, reference, vocabulary_sha256)


def _write_proof(runner: Runner, place: Path, reference: Reference, vocabulary_sha256: str) -> None:
    """Write a model's golden requests and its ranking."""
    requests = edge_and_user_requests(reference.spec, reference.users, _GOLDEN_USERS, reference.filters)
    answer = runner.recommend(*requests)
    golden.Golden(requests.history, requests.exclude, *answer, requests.choices).save(place / golden.FILE_NAME)
    items, _ = answers(runner, reference.users, "ranking")
    record_ranking(items, reference.users, vocabulary_sha256).save(place / ranking_record.FILE_NAME)


def _examine_int8(
    folder: Path,
    reference: Reference,
    measured: Sequence[PrecisionMeasurement],
    quantization: Quantization,
    scratch: Path,
) -> dict[str, Any]:
    """Further findings about INT8, ready for JSON; none where it could not be made."""
    int8 = next((m for m in measured if m.precision is Precision.INT8), None)
    if int8 is None:
        return {}
    findings: dict[str, Any] = {"saturation": saturation(folder, reference), "within_budget": not budget_faults(int8.agreement)}
    if not findings["within_budget"]:
        layer, overlap = costliest_layer(folder, reference, quantization, scratch)
        findings["costliest_layer"] = {"layer": layer, "overlap_at_10_without_it": overlap}
        logger.info("export: INT8 costs most in layer %s; with that in FP32 it keeps %.3f of the top 10", layer, overlap)
    return findings


def _verdict(config: Config, measured: list[PrecisionMeasurement], *, grown: bool) -> Verdict[Precision]:
    if grown:
        return Verdict(Precision.FP32, "fp32 for targets without an approximate head: other precisions were not made")
    if config.export.precision == "auto":
        return choose_precision(measured)
    wanted = Precision(config.export.precision)
    if wanted not in (m.precision for m in measured):
        raise PrecisionError(f"export.precision = {wanted.value!r} was asked for, but cannot be made (the reason stands above)")
    return Verdict(wanted, f"{wanted.value} ships: the settings ask for it")


def _digest(path: Path | None) -> str | None:
    if path is None:
        return None
    if not path.is_file():
        raise CalibrationError(f"export.calibration.requests: found no file {path}, expected a calibration set (.npz)")
    return sha256_of_file(path)
