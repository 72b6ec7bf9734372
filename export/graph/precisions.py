"""The FP32 export in FP16 and INT8, next to it, and what each of them does to the ranking and the time of a request."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from distilrec.config import CalibrationConfig
from distilrec.core.errors import PrecisionError
from distilrec.core.runner import Answer, Choices, Runner
from distilrec.core.specs import MODEL_FILE, Precision, RecommenderSpec
from distilrec.data.dataset import HeldOut
from distilrec.data.item_filters import ItemFilters
from distilrec.evaluation.contract import BATCH_TOLERANCE, agreement, check_contract
from distilrec.evaluation.latency import p50_ms
from distilrec.evaluation.parity import draw_choices, edge_requests
from distilrec.evaluation.ranking import recommend_all
from distilrec.evaluation.verdict import PrecisionMeasurement
from export.artefact import TENSORRT_FILE, model_folder, model_path
from export.graph.calibration import CalibrationSet, activation_ranges
from export.graph.fp16 import to_fp16
from export.graph.int8 import Form, to_int8
from export.graph.layers import weight_layers
from export.graph.onnx_runner import OnnxRunner
from export.graph.shared_weights import save_sharing_weights

logger = logging.getLogger(__name__)

SMALLEST_FIRST = (Precision.INT8, Precision.FP16, Precision.FP32)
"""The order in which a verdict considers precisions."""

_BATCH_SIZE = 64
"""Users in a batch where only the ranking counts, not the time."""

_CONTRACT_USERS = 256
"""Users whose requests the contract is checked with, in addition to the requests at its edges."""


class Quantization(NamedTuple):
    """What INT8 ranges are chosen from."""

    data: CalibrationSet
    config: CalibrationConfig


class Reference(NamedTuple):
    """The FP32 answers that every precision is compared with."""

    spec: RecommenderSpec
    users: HeldOut
    """Validation users: the test part is for reports, not for choices."""
    expected: Answer
    """FP32's answers to ``users``: items int32 [U, K] and scores float32 [U, K]."""
    filters: ItemFilters | None = None
    """Attributes of the items; None where requests cannot filter."""


def make_precisions(artefact: Path, quantization: Quantization) -> dict[Precision, str]:
    """Write FP16 and INT8 into an artefact that holds FP32; returns those that cannot be made, with the reason."""
    makers: dict[Precision, Callable[[], None]] = {
        Precision.FP16: partial(_make_fp16, artefact),
        Precision.INT8: partial(_make_int8, artefact, quantization),
    }
    refused = {}
    for precision, make in makers.items():
        try:
            make()
        except PrecisionError as error:
            refused[precision] = str(error)
            logger.warning("export: no %s: %s", precision.value, error)
    return refused


def answers(runner: Runner, users: HeldOut, title: str) -> Answer:
    """A runner's answers to all users: items int32 [U, K] and scores float32 [U, K]."""
    return recommend_all(runner, users, _BATCH_SIZE, title)


class TriedRequests(NamedTuple):
    """Requests that try what a model promises."""

    history: NDArray[np.int32]
    """int32 [R, L]."""
    exclude: NDArray[np.int32]
    """int32 [R, E]."""
    choices: Choices
    """Optional tensors of the model, int32 [R, ...]."""


def edge_and_user_requests(spec: RecommenderSpec, users: HeldOut, count: int, filters: ItemFilters | None) -> TriedRequests:
    """Requests at the contract's edges, then those of the first ``count`` users, all with choices of each kind."""
    edge_history, edge_exclude = edge_requests(spec)
    history, exclude = np.concatenate([edge_history, users.history[:count]]), np.concatenate([edge_exclude, users.exclude[:count]])
    return TriedRequests(history, exclude, draw_choices(spec, filters.values.count if filters else 0, len(history)))


def onnx_runners(artefact: Path, spec: RecommenderSpec, precisions: Sequence[Precision]) -> dict[Precision, Runner]:
    """ONNX Runtime with one thread for each precision."""
    return {precision: OnnxRunner(model_path(artefact, precision), spec) for precision in precisions}


def measure(runners: Mapping[Precision, Runner], reference: Reference, title: str = "") -> list[PrecisionMeasurement]:
    """Check the contract of every precision and measure it, in the order of ``runners``.

    Args:
        runners: The runner of each precision.
        reference: Answers to compare with.
        title: Text before the precision's name on progress bars.

    Raises:
        ParityError: A runner breaks the serving contract.
    """
    spec, users, expected, filters = reference
    history, exclude, choices = edge_and_user_requests(spec, users, _CONTRACT_USERS, filters)
    for precision, runner in runners.items():
        check_contract(runner, spec, history, exclude, BATCH_TOLERANCE[precision], choices=choices, filters=filters)
    times = p50_ms(runners, users.history, users.exclude, users.choices)
    return [
        PrecisionMeasurement(
            precision, times[precision], agreement(expected, answers(runner, users, f"{title}{precision.value}"), users)
        )
        for precision, runner in runners.items()
    ]


def saturation(artefact: Path, reference: Reference) -> float:
    """Share of INT8's top 100 that ONNX Runtime's own kernels change against the graph as written: above 0, sums saturate here."""
    path = model_path(artefact, Precision.INT8)
    rewritten, written = (
        answers(OnnxRunner(path, reference.spec, optimize=optimize), reference.users, "saturation") for optimize in (True, False)
    )
    return 1 - agreement(written, rewritten, reference.users).overlap_at_100


def costliest_layer(artefact: Path, reference: Reference, quantization: Quantization, scratch: Path) -> tuple[str, float]:
    """The layer whose return to FP32 brings back most of the top 10, and the overlap@10 it leads to (leave-one-layer-out).

    Args:
        artefact: Folder of the export, with FP32.
        reference: Answers to compare with.
        quantization: What the INT8 ranges are chosen from.
        scratch: Folder for temporary graphs.
    """
    model = onnx.load(model_path(artefact, Precision.FP32))
    ranges = _ranges(model, quantization)
    overlaps = {}
    for name in sorted({layer.name for layer in weight_layers(model.graph)}):
        path = scratch / "without.onnx"
        onnx.save(to_int8(model, ranges, Form.CPU, leave=[name]), path)
        answer = answers(OnnxRunner(path, reference.spec), reference.users, f"without {name}")
        overlaps[name] = agreement(reference.expected, answer, reference.users).overlap_at_10
    name = max(overlaps, key=lambda layer: overlaps[layer])
    return name, overlaps[name]


def _make_fp16(artefact: Path) -> None:
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
    """Largest magnitude worth representing, by name, of each activation that a weight layer reads."""
    tensors = sorted({layer.activation for layer in weight_layers(model.graph) if layer.activation})
    return activation_ranges(model, tensors, quantization.data, quantization.config)


def _set_metadata(model: onnx.ModelProto, **properties: str) -> None:
    """Add properties to the model's metadata, in place of former ones of the same names."""
    kept = {entry.key: entry.value for entry in model.metadata_props}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, kept | properties)
