"""Where an artefact keeps its models, and how graphs share one file of weights."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import external_data_helper, numpy_helper

from distilrec.core.specs import MODEL_FILE, Precision

TENSORRT_FILE = "tensorrt.onnx"
"""The INT8 graph in the form TensorRT fuses, beside the one for ONNX Runtime."""

WEIGHTS_FILE = "weights.bin"
"""Weights that both INT8 graphs read."""

REPORT_FILE = "report.json"
"""Measurements of all precisions, and the verdict."""

CALIBRATION_FILE = "calibration.npz"
"""The requests that INT8 was calibrated with."""

_ENGINES_FOLDER = "engines"

_SHARED_FROM_BYTES = 512
_ALIGNMENT = 64


def model_folder(artefact: Path, precision: Precision) -> Path:
    """Folder with all that ONNX Runtime needs for a precision."""
    return artefact / precision.value


def model_path(artefact: Path, precision: Precision) -> Path:
    """The model ONNX Runtime runs."""
    return model_folder(artefact, precision) / MODEL_FILE


def tensorrt_path(artefact: Path, precision: Precision) -> Path:
    """The model TensorRT engines are built from."""
    return model_folder(artefact, precision) / (TENSORRT_FILE if precision is Precision.INT8 else MODEL_FILE)


def plan_path(artefact: Path, backend: str, precision: Precision) -> Path:
    """The TensorRT engine; its manifest lies beside it."""
    return artefact / _ENGINES_FOLDER / backend / f"{precision.value}.plan"


def served_files(artefact: Path, precision: Precision) -> list[Path]:
    """What ONNX Runtime reads for a precision."""
    files = [model_path(artefact, precision), model_folder(artefact, precision) / WEIGHTS_FILE]
    return [path for path in files if path.exists()]


def model_size_bytes(artefact: Path, precision: Precision) -> int:
    """Bytes of what ONNX Runtime reads for a precision."""
    return sum(path.stat().st_size for path in served_files(artefact, precision))


def save_sharing_weights(models: Mapping[str, onnx.ModelProto], folder: Path) -> None:
    """Write graphs by file name, their large constants in one common file, equal ones once.

    The models are left without these constants.
    """
    places: dict[bytes, int] = {}
    with (folder / WEIGHTS_FILE).open("wb") as file:
        for model in models.values():
            for tensor in model.graph.initializer:
                content = np.ascontiguousarray(numpy_helper.to_array(tensor)).tobytes()
                if len(content) < _SHARED_FROM_BYTES:
                    continue
                if content not in places:
                    file.write(bytes(-file.tell() % _ALIGNMENT))
                    places[content] = file.tell()
                    file.write(content)
                tensor.raw_data = content
                external_data_helper.set_external_data(tensor, WEIGHTS_FILE, places[content], len(content))
                tensor.ClearField("raw_data")
    for name, model in models.items():
        onnx.save(model, folder / name)
        onnx.checker.check_model(folder / name)
