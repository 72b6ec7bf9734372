"""Label, colour and mark of each timed and each served model in figures and tables."""

from typing import NamedTuple

from distilrec.report.evaluation_file import EvaluationFile, exported_model_name


class ModelStyle(NamedTuple):
    """How a model appears in figures and tables."""

    label: str
    family: str
    """Family of models, which decides the colour."""
    shape: str
    """Mark: circle, square, triangle or diamond."""


MODEL_STYLES = {
    "teacher-torch": ModelStyle("teacher, PyTorch", "teacher", "circle"),
    "teacher-onnx": ModelStyle("teacher, ONNX", "teacher", "square"),
    "text-teacher-torch": ModelStyle("text teacher, PyTorch", "teacher", "diamond"),
    "undistilled-torch": ModelStyle("no teacher, PyTorch", "undistilled", "circle"),
    "undistilled-onnx": ModelStyle("no teacher, ONNX", "undistilled", "square"),
    "distilled-torch": ModelStyle("distilled, PyTorch", "distilled", "circle"),
    "student-onnx-fp32": ModelStyle("FP32", "distilled", "square"),
    "student-onnx-fp16": ModelStyle("FP16", "distilled", "diamond"),
    "student-onnx-int8": ModelStyle("INT8", "distilled", "triangle"),
    "student-tensorrt-fp32": ModelStyle("TensorRT FP32", "engine", "square"),
    "student-tensorrt-fp16": ModelStyle("TensorRT FP16", "engine", "diamond"),
    "student-tensorrt-int8": ModelStyle("TensorRT INT8", "engine", "triangle"),
}
"""Style of each timed model, by its name in the benchmarks."""

SERVED_MODEL_STYLES = {
    "identity": ModelStyle("identity (no work)", "floor", "diamond"),
    "student": ModelStyle("student", "distilled", "square"),
    "recommend": ModelStyle("front door (string ids)", "engine", "triangle"),
    "teacher": ModelStyle("teacher", "teacher", "circle"),
}
"""Style of each served model, by its name in the model repository."""


def model_style(model: str) -> ModelStyle:
    """Return the style of a timed model; an unknown model is labelled with its own name."""
    return MODEL_STYLES.get(model, ModelStyle(model, "floor", "circle"))


def evaluated_model_name(evaluation: EvaluationFile, model: str) -> str:
    """Return the name of a timed model in the evaluation; empty where the evaluation cannot list it."""
    role, _, runtime = model.partition("-")
    if runtime.startswith("onnx-"):
        return exported_model_name(runtime.removeprefix("onnx-"))
    names = {"teacher": evaluation.teacher, "undistilled": evaluation.undistilled, "distilled": evaluation.distilled}
    return names.get(role, "")
