"""What the timed models are called, and how numbers are written."""

from typing import NamedTuple

from distilrec.report.judgement import Interval, Judgement


class Look(NamedTuple):
    """How a model appears in figures and tables."""

    label: str
    family: str
    """Colour."""
    shape: str
    """Mark."""


LOOKS = {
    "teacher-torch": Look("teacher, PyTorch", "teacher", "circle"),
    "teacher-onnx": Look("teacher, ONNX", "teacher", "square"),
    "text-teacher-torch": Look("text teacher, PyTorch", "teacher", "diamond"),
    "undistilled-torch": Look("no teacher, PyTorch", "undistilled", "circle"),
    "undistilled-onnx": Look("no teacher, ONNX", "undistilled", "square"),
    "distilled-torch": Look("distilled, PyTorch", "distilled", "circle"),
    "distilled-onnx-fp32": Look("FP32", "distilled", "square"),
    "distilled-onnx-fp16": Look("FP16", "distilled", "diamond"),
    "distilled-onnx-int8": Look("INT8", "distilled", "triangle"),
    "distilled-tensorrt-fp32": Look("TensorRT FP32", "engine", "square"),
    "distilled-tensorrt-fp16": Look("TensorRT FP16", "engine", "diamond"),
    "distilled-tensorrt-int8": Look("TensorRT INT8", "engine", "triangle"),
}
"""By the name of the benchmark."""

SERVED = {
    "identity": Look("identity (no work)", "floor", "diamond"),
    "student": Look("student", "distilled", "square"),
    "recommend": Look("front door (string ids)", "engine", "triangle"),
    "teacher": Look("teacher", "teacher", "circle"),
}
"""Served models by their name in the repository."""


def look(model: str) -> Look:
    """Of a timed model; one that is not known keeps its name."""
    return LOOKS.get(model, Look(model, "floor", "circle"))


def hop_of(judgement: Judgement, model: str) -> str:
    """Which hop of the evaluation a timed model is."""
    who, _, runtime = model.partition("-")
    if runtime.startswith("onnx-"):
        return f"distilled, ONNX {runtime.removeprefix('onnx-').upper()}"
    return {"teacher": judgement.teacher, "undistilled": judgement.undistilled, "distilled": judgement.distilled}.get(who, "")


def percent(share: float, sign: str = "") -> str:
    """99.3 %."""
    return f"{share * 100:{sign}.1f}\N{NO-BREAK SPACE}%"


def times(factor: float) -> str:
    """58x, 3.2x."""
    return f"{factor:.0f}x" if factor >= 10 else f"{factor:.1f}x"


def milliseconds(value: float) -> str:
    """Three digits: 0.113, 6.17, 143."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def megabytes(size_bytes: float) -> str:
    """0.60 MB, 14.7 MB, 256 MB."""
    value = size_bytes / 1e6
    digits = f"{value:.2f}" if value < 1 else f"{value:.3g}" if value < 100 else f"{value:,.0f}"
    return f"{digits}\N{NO-BREAK SPACE}MB"


def share_with_interval(value: Interval) -> str:
    """99.3 % [97.0 %, 101.8 %]."""
    if value.low is None or value.high is None:
        return percent(value.mean)
    return f"{percent(value.mean)} [{percent(value.low)}, {percent(value.high)}]"


def number_with_interval(value: Interval, sign: str = "") -> str:
    """0.0603 [0.0577, 0.0630]."""
    if value.low is None or value.high is None:
        return f"{value.mean:{sign}.4f}"
    return f"{value.mean:{sign}.4f} [{value.low:{sign}.4f}, {value.high:{sign}.4f}]"
