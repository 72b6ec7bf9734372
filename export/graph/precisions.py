"""The FP32 export in FP16 and INT8, beside it, and what each of them does to the ranking and the time of a request."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from distilrec.config import CalibrationConfig
from distilrec.core.errors import PrecisionError
from distilrec.core.runner import Answer, Runner
from distilrec.core.specs import MODEL_FILE, Precision, RecommenderSpec
from distilrec.data.dataset import HeldOut
from distilrec.evaluation.contract import BATCH_TOLERANCE, agreement, check_contract
from distilrec.evaluation.latency import p50_ms
from distilrec.evaluation.parity import edge_requests
from distilrec.evaluation.ranking import recommend_all
from distilrec.evaluation.verdict import Measured
from export.artefact import TENSORRT_FILE, model_folder, model_path
from export.graph.calibration import CalibrationSet, activation_ranges
from export.graph.fp16 import to_fp16
from export.graph.int8 import Form, to_int8
from export.graph.layers import weight_layers
from export.graph.onnx_runner import OnnxRunner
from export.graph.shared_weights import save_sharing_weights

logger = logging.getLogger(__name__)

SMALLEST_FIRST = (Precision.INT8, Precision.FP16, Precision.FP32)

_BATCH_SIZE = 64
CONTRACT_USERS = 256
"""Users whose requests the contract is checked with, beside those at its edges."""


class Quantization(NamedTuple):
    """What INT8 is made with."""

    data: CalibrationSet
    config: CalibrationConfig


class Judge(NamedTuple):
    """What every precision is compared with."""

    spec: RecommenderSpec
    users: HeldOut
    """Validation users: the test part is for reports, not for choices."""
    expected: Answer
    """FP32's answers to them."""


def make_precisions(artefact: Path, quantization: Quantization) -> dict[Precision, str]:
    """Write FP16 and INT8 beside the FP32 model; returns those that cannot be made, with the reason."""
    makers: dict[Precision, Callable[[Path, Quantization], None]] = {Precision.FP16: _make_fp16, Precision.INT8: _make_int8}
    refused = {}
    for precision, make in makers.items():
        try:
            make(artefact, quantization)
        except PrecisionError as error:
            refused[precision] = str(error)
            logger.warning("export: no %s: %s", precision.value, error)
    return refused


def answers(runner: Runner, users: HeldOut, title: str) -> Answer:
    """A runner's answers to all users."""
    return recommend_all(runner, users, _BATCH_SIZE, title)


def measure(artefact: Path, judge: Judge, precisions: Sequence[Precision]) -> list[Measured]:
    """Check the contract of every precision in ONNX Runtime, one thread, and measure it.

    Raises:
        ParityError: one breaks the serving contract.
    """
    spec, users, expected = judge
    runners = {precision: OnnxRunner(model_path(artefact, precision), spec) for precision in precisions}
    history, exclude = (
        np.concatenate([edges, rows[:CONTRACT_USERS]])
        for edges, rows in zip(edge_requests(spec), (users.history, users.exclude), strict=True)
    )
    for precision, runner in runners.items():
        check_contract(runner, spec, history, exclude, BATCH_TOLERANCE[precision])
    times = p50_ms(runners, users.history, users.exclude)
    return [
        Measured(precision, times[precision], agreement(expected, answers(runner, users, precision.value), users))
        for precision, runner in runners.items()
    ]


def saturation(artefact: Path, judge: Judge) -> float:
    """Share of INT8's top 100 that ONNX Runtime's own kernels change against the graph as written: above 0, sums saturate here."""
    path = model_path(artefact, Precision.INT8)
    rewritten, written = (
        answers(OnnxRunner(path, judge.spec, optimize=optimize), judge.users, "saturation") for optimize in (True, False)
    )
    return 1 - agreement(written, rewritten, judge.users).overlap_at_100


def costliest_layer(artefact: Path, judge: Judge, quantization: Quantization, scratch: Path) -> tuple[str, float]:
    """The layer whose return to FP32 gives most of the top 10 back, and the overlap@10 it leads to (leave-one-layer-out)."""
    model = onnx.load(model_path(artefact, Precision.FP32))
    ranges = _ranges(model, quantization)
    overlaps = {}
    for name in sorted({layer.name for layer in weight_layers(model.graph)}):
        path = scratch / "without.onnx"
        onnx.save(to_int8(model, ranges, Form.CPU, leave=[name]), path)
        found = answers(OnnxRunner(path, judge.spec), judge.users, f"without {name}")
        overlaps[name] = agreement(judge.expected, found, judge.users).overlap_at_10
    name = max(overlaps, key=lambda layer: overlaps[layer])
    return name, overlaps[name]


def _make_fp16(artefact: Path, _: Quantization) -> None:
    model = to_fp16(onnx.load(model_path(artefact, Precision.FP32)))
    _set_metadata(model, precision=Precision.FP16.value)
    path = model_path(artefact, Precision.FP16)
    path.parent.mkdir()
    onnx.save(model, path)


def _make_int8(artefact: Path, quantization: Quantization) -> None:
    source = onnx.load(model_path(artefact, Precision.FP32))
    ranges = _ranges(source, quantization)
    models = {MODEL_FILE: to_int8(source, ranges, Form.CPU), TENSORRT_FILE: to_int8(source, ranges, Form.TENSORRT)}
    for model in models.values():
        _set_metadata(model, precision=Precision.INT8.value, calibration=quantization.config.method)
    folder = model_folder(artefact, Precision.INT8)
    folder.mkdir()
    save_sharing_weights(models, folder)


def _ranges(model: onnx.ModelProto, quantization: Quantization) -> dict[str, float]:
    tensors = sorted({layer.activation for layer in weight_layers(model.graph) if layer.activation})
    return activation_ranges(model, tensors, quantization.data, quantization.config)


def _set_metadata(model: onnx.ModelProto, **properties: str) -> None:
    kept = {entry.key: entry.value for entry in model.metadata_props}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, kept | properties)
