"""Calibration data: training requests shaped like traffic, and the ranges of activations they cause."""

import contextlib
import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization.calibrate import HistogramCollector

from distilrec.config import CalibrationConfig
from distilrec.core.errors import CalibrationError
from distilrec.core.progress import progress
from distilrec.core.specs import PADDING, RecommenderSpec
from distilrec.data.dataset import Dataset, requests

_SHARES = {"traffic": 0.5, "short": 0.2, "long": 0.1, "tail": 0.15, "cold": 0.05}
"""Share of each sort of request in a sampled set (``sample_calibration``)."""

_SHORT = 3
"""Most items in the history of a short request."""

_LONGEST_SHARE = 0.1
"""A long request has at least as many items as the training histories of this share of the users."""

_BATCH_SIZE = 64
"""Requests whose inner activations are held in memory at once."""

_HISTOGRAM_BINS = 2048
_INT8_LEVELS = 128
"""Both as in Migacz 2017: magnitudes in 2048 bins, which the 128 levels of one sign of INT8 must represent."""


@dataclass(frozen=True)
class CalibrationSet:
    """Requests that INT8 is calibrated with."""

    history: NDArray[np.int32]
    """int32 [R, L]."""
    exclude: NDArray[np.int32]
    """int32 [R, E]."""
    vocabulary_sha256: str
    """Digest of the vocabulary that item indices belong to."""

    def save(self, path: Path) -> None:
        """Write an .npz file; the same requests give the same bytes."""
        np.savez_compressed(path, history=self.history, exclude=self.exclude, vocabulary_sha256=np.array(self.vocabulary_sha256))


def load_calibration(path: Path, spec: RecommenderSpec, vocabulary_sha256: str) -> CalibrationSet:
    """Read what ``CalibrationSet.save`` wrote, here or elsewhere (recorded traffic).

    Args:
        path: The .npz file.
        spec: Sizes that the requests must have.
        vocabulary_sha256: Digest of the vocabulary that their item indices must belong to.

    Raises:
        CalibrationError: There is no such file, or it is not a calibration set, empty, for another vocabulary or of other
            lengths.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            calibration = CalibrationSet(arrays["history"], arrays["exclude"], str(arrays["vocabulary_sha256"]))
    except FileNotFoundError:
        raise CalibrationError(f"{path}: no such file, expected a calibration set (.npz)") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CalibrationError(f"{path}: not a calibration set: {error!r}") from error
    check_calibration(calibration, spec, vocabulary_sha256, where=str(path))
    return calibration


def check_calibration(calibration: CalibrationSet, spec: RecommenderSpec, vocabulary_sha256: str, where: str) -> None:
    """Refuse requests that are not for this model.

    Args:
        calibration: Requests to check.
        spec: Sizes that the requests must have.
        vocabulary_sha256: Digest of the vocabulary that their item indices must belong to.
        where: Name of the requests for error messages.

    Raises:
        CalibrationError: The requests are for another vocabulary, of other lengths, or empty.
    """
    if calibration.vocabulary_sha256 != vocabulary_sha256:
        raise CalibrationError(
            f"{where}: found requests for vocabulary {calibration.vocabulary_sha256[:12]}..., expected"
            f" {vocabulary_sha256[:12]}...; their indices are other items. Leave out export.calibration.requests to sample again"
        )
    history, exclude = calibration.history, calibration.exclude
    for tensor, array in ((spec.history, history), (spec.exclude, exclude)):
        if array.dtype != np.int32 or array.shape[1:] != tensor.shape:
            raise CalibrationError(
                f"{where}: found {tensor.name} as {array.dtype} {list(array.shape)}, expected int32 [requests, {tensor.shape[0]}]"
            )
        if array.size and not (array.min() >= 0 and array.max() <= spec.item_count):
            raise CalibrationError(f"{where}: found item indices outside 0..{spec.item_count} in {tensor.name}")
    if len(history) != len(exclude):
        raise CalibrationError(f"{where}: found {len(history)} rows of history and {len(exclude)} of exclude, expected as many")
    if not (history != PADDING).any():
        raise CalibrationError(f"{where}: found no request with a history, expected some hundreds")


def sample_calibration(dataset: Dataset, spec: RecommenderSpec, vocabulary_sha256: str, count: int, seed: int) -> CalibrationSet:
    """Draw requests from the *training* part, shaped like traffic.

    Half of the requests are any training prefix, so that active users have more of them, as in traffic. The others cover the
    edges: histories of at most 3 items, the longest tenth, prefixes that end with an item of the rarer half, and cold users
    without history.

    Args:
        dataset: Sequences and splits; only items before a user's validation cut are used.
        spec: Lengths of the requests.
        vocabulary_sha256: Digest of the vocabulary of ``dataset``.
        count: Number of requests, R.
        seed: Random seed for choosing prefixes.

    Raises:
        CalibrationError: The dataset has no training interaction.
    """
    random = np.random.default_rng(seed)
    lengths = dataset.validation_start
    users = np.repeat(np.arange(dataset.user_count), lengths)
    if not len(users):
        raise CalibrationError("found no training interaction to calibrate with, expected some hundreds")
    # Every training prefix: its user and its length.
    ends = np.concatenate([np.arange(1, length + 1) for length in lengths])
    counts = dataset.training_counts()
    last_items = dataset.items[dataset.offsets[users] + ends - 1]
    rarer_half = np.quantile(counts[1:][counts[1:] > 0], 0.5)
    longest = np.quantile(lengths[lengths > 0], 1 - _LONGEST_SHARE)
    choices = {
        "traffic": np.ones(len(users), bool),
        "short": ends <= _SHORT,
        "long": ends >= longest,
        "tail": counts[last_items] <= rarer_half,
    }
    seen: list[NDArray[np.int32]] = []
    for name, allowed in choices.items():
        places = random.choice(np.flatnonzero(allowed), round(count * _SHARES[name]))
        seen += [dataset.sequence(users[place])[: ends[place]] for place in places]
    seen += [np.zeros(0, np.int32)] * max(1, count - len(seen))
    return CalibrationSet(*requests(seen, spec), vocabulary_sha256)


def activation_ranges(
    model: onnx.ModelProto, tensors: Sequence[str], data: CalibrationSet, config: CalibrationConfig
) -> dict[str, float]:
    """Choose the largest magnitude of each tensor that INT8 represents, as 127.

    Args:
        model: FP32 model, with its weights inside.
        tensors: Names of float32 activations.
        data: Requests to run.
        config: Method. ``minmax``: the largest magnitude. ``percentile``: the magnitude that this share of the values does not
            exceed. ``entropy``: the one with the least KL divergence between the histograms before and after rounding (Migacz
            2017, "8-bit inference with TensorRT").

    Raises:
        CalibrationError: An activation is not finite.
    """
    largest = dict.fromkeys(tensors, 0.0)
    collector = HistogramCollector(
        method=config.method,
        symmetric=True,
        num_bins=_HISTOGRAM_BINS,
        num_quantized_bins=_INT8_LEVELS,
        percentile=config.percentile,
        scenario="same",
    )
    for batch in _activations(model, tensors, data, f"calibration ({config.method})"):
        for name, values in batch.items():
            largest[name] = float(np.maximum(largest[name], np.abs(values).max()))  # NaN stays NaN
        if config.method != "minmax":
            with contextlib.redirect_stdout(io.StringIO()):  # it prints a line for each batch
                collector.collect({name: [values] for name, values in batch.items()})
    faulty = [name for name, value in largest.items() if not np.isfinite(value)]
    if faulty:
        raise CalibrationError(f"found values that are not finite in {', '.join(faulty)}; the model's weights are broken")
    if config.method == "minmax":
        return largest
    with contextlib.redirect_stdout(io.StringIO()):
        limits = collector.compute_collection_result()
    return {name: max(abs(float(low)), abs(float(high))) for name, (low, high, *_) in limits.items()}


def _activations(
    model: onnx.ModelProto, tensors: Sequence[str], data: CalibrationSet, title: str
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Values of inner tensors by name, float32 [rows, ...], batch by batch."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in tensors)
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    others = {tensor.name: tensor.shape[1:] for tensor in session.get_inputs() if tensor.name not in ("history", "exclude")}
    for start in progress(range(0, len(data.history), _BATCH_SIZE), desc=title, unit="batch", leave=False):
        rows = slice(start, start + _BATCH_SIZE)
        history, exclude = data.history[rows], data.exclude[rows]
        nothing_chosen = {name: np.zeros((len(history), *shape), np.int32) for name, shape in others.items()}
        values = session.run(list(tensors), {"history": history, "exclude": exclude, **nothing_chosen})
        yield dict(zip(tensors, values, strict=True))
