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
_SHORT = 3
_LONGEST_SHARE = 0.1
_BATCH_SIZE = 64
_HISTOGRAM_BINS = 2048
_INT8_LEVELS = 128


@dataclass(frozen=True)
class CalibrationSet:
    """Requests to calibrate with."""

    history: NDArray[np.int32]
    """int32 [R, L]."""
    exclude: NDArray[np.int32]
    """int32 [R, E]."""
    vocabulary_sha256: str
    """Of the vocabulary the indices are of."""

    def save(self, path: Path) -> None:
        """Write an .npz file; the same requests give the same bytes."""
        np.savez_compressed(path, history=self.history, exclude=self.exclude, vocabulary_sha256=np.array(self.vocabulary_sha256))


def load_calibration(path: Path, spec: RecommenderSpec, vocabulary_sha256: str) -> CalibrationSet:
    """Read what ``CalibrationSet.save`` wrote, here or elsewhere (recorded traffic).

    Raises:
        CalibrationError: no such file, not a calibration set, empty, of other items, or of other lengths.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = CalibrationSet(arrays["history"], arrays["exclude"], str(arrays["vocabulary_sha256"]))
    except FileNotFoundError:
        raise CalibrationError(f"{path}: no such file, expected a calibration set (.npz)") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CalibrationError(f"{path}: not a calibration set: {error!r}") from error
    check_calibration(found, spec, vocabulary_sha256, where=str(path))
    return found


def check_calibration(found: CalibrationSet, spec: RecommenderSpec, vocabulary_sha256: str, where: str) -> None:
    """Refuse requests that are not of this model.

    Raises:
        CalibrationError: see ``load_calibration``.
    """
    if found.vocabulary_sha256 != vocabulary_sha256:
        raise CalibrationError(
            f"{where}: found requests for vocabulary {found.vocabulary_sha256[:12]}..., expected {vocabulary_sha256[:12]}...; their"
            " indices are other items. Sample anew by leaving out export.calibration.requests"
        )
    for tensor, array in ((spec.history, found.history), (spec.exclude, found.exclude)):
        if array.dtype != np.int32 or array.shape[1:] != tensor.shape:
            raise CalibrationError(
                f"{where}: found {tensor.name} as {array.dtype} {list(array.shape)}, expected int32 [requests, {tensor.shape[0]}]"
            )
        if array.size and not (array.min() >= 0 and array.max() <= spec.item_count):
            raise CalibrationError(f"{where}: found item indices outside 0..{spec.item_count} in {tensor.name}")
    if len(found.history) != len(found.exclude):
        raise CalibrationError(f"{where}: found {len(found.history)} rows of history and {len(found.exclude)} of exclude")
    if not (found.history != PADDING).any():
        raise CalibrationError(f"{where}: found no request with a history, expected some hundreds")


def sample_calibration(dataset: Dataset, spec: RecommenderSpec, vocabulary_sha256: str, count: int, seed: int) -> CalibrationSet:
    """Draw requests from the *training* part, shaped like traffic.

    Half are any training prefix (users count by their activity, as in traffic), the rest makes sure of the edges: histories of
    at most 3 items, the longest tenth, prefixes that end with an item of the rarer half, and cold users without history.

    Args:
        dataset: sequences and splits; only what stands before a user's validation cut is used.
        spec: lengths of the requests.
        vocabulary_sha256: of the vocabulary of ``dataset``.
        count: requests, R.
        seed: of the choice.

    Raises:
        CalibrationError: nothing to draw from.
    """
    random = np.random.default_rng(seed)
    lengths = dataset.validation_start
    users = np.repeat(np.arange(dataset.user_count), lengths)
    # Every training prefix: its user and its length.
    ends = np.concatenate([np.arange(1, length + 1) for length in lengths]) if len(users) else np.zeros(0, np.int64)
    if not len(users):
        raise CalibrationError("found no training interaction to calibrate with, expected some hundreds")
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
    history, exclude = requests(seen, spec)
    return CalibrationSet(history, exclude, vocabulary_sha256)


def activation_ranges(
    model: onnx.ModelProto, tensors: Sequence[str], data: CalibrationSet, config: CalibrationConfig
) -> dict[str, float]:
    """Largest magnitude worth representing of each tensor: what INT8 maps to 127.

    Args:
        model: FP32, with its weights inside.
        tensors: names of float32 activations.
        data: requests to run.
        config: method. ``minmax``: the largest seen. ``percentile``: that share of the values. ``entropy``: least KL divergence
            between the histograms before and after (Migacz 2017, "8-bit inference with TensorRT").

    Raises:
        CalibrationError: a range is not finite.
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
    for found in _run(model, tensors, data, f"calibration ({config.method})"):
        for name, values in found.items():
            largest[name] = float(np.maximum(largest[name], np.abs(values).max()))  # NaN stays NaN
        if config.method != "minmax":
            with contextlib.redirect_stdout(io.StringIO()):  # it prints a line a batch
                collector.collect({name: [values] for name, values in found.items()})
    faulty = [name for name, value in largest.items() if not np.isfinite(value)]
    if faulty:
        raise CalibrationError(f"found values that are not finite in {', '.join(faulty)}; the model's weights are broken")
    if config.method == "minmax":
        return largest
    with contextlib.redirect_stdout(io.StringIO()):
        limits = collector.compute_collection_result()
    return {name: max(abs(float(low)), abs(float(high))) for name, (low, high, *_) in limits.items()}


def _run(
    model: onnx.ModelProto, tensors: Sequence[str], data: CalibrationSet, title: str
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Values of inner tensors, batch by batch."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in tensors)
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_inputs()]
    for start in progress(range(0, len(data.history), _BATCH_SIZE), desc=title, unit="batch", leave=False):
        rows = slice(start, start + _BATCH_SIZE)
        found = session.run(list(tensors), dict(zip(names, (data.history[rows], data.exclude[rows]), strict=True)))
        yield dict(zip(tensors, found, strict=True))
