"""Names of the files of an exported artefact."""

from pathlib import Path

from distilrec.core.manifest import Manifest
from distilrec.core.specs import MODEL_FILE, PLAN_FILE, Head, Precision

TENSORRT_FILE = "tensorrt.onnx"
"""The INT8 graph in the form that TensorRT fuses; ``MODEL_FILE`` next to it is in the form of ONNX Runtime."""

WEIGHTS_FILE = "weights.bin"
"""Weights that both INT8 graphs read."""

REPORT_FILE = "report.json"
"""Measurements of all precisions, and the verdict."""

CALIBRATION_FILE = "calibration.npz"
"""The requests that INT8 was calibrated with."""

HEAD_FILE = "head.json"
"""Settings of an approximate head; a version folder that has it serves that head in place of ``MODEL_FILE``."""

ENCODER_FILE = "encoder.onnx"
"""The graph of an approximate head's encoder."""

_ENGINES_FOLDER = "engines"
_HEAD_FOLDER = "approximate"


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
    """The TensorRT engine; its manifest lies next to it (``engines.plan.manifest_path``)."""
    return artefact / _ENGINES_FOLDER / backend / f"{precision.value}.plan"


def head_folder(artefact: Path) -> Path:
    """Folder of the approximate head, with all that serves it."""
    return artefact / _HEAD_FOLDER


def head_files(artefact: Path) -> list[Path]:
    """What serves the approximate head: all of its folder but the proofs."""
    suffixes = (".faiss", ".npy", ".onnx")
    return sorted(path for path in head_folder(artefact).iterdir() if path.suffix in suffixes or path.name == HEAD_FILE)


def served_head(manifest: Manifest) -> Head:
    """The head that the manifest of an export says is served."""
    return Head(manifest.metrics.get("head", Head.EXHAUSTIVE))


def proof_path(artefact: Path, manifest: Manifest, name: str) -> Path:
    """What travels with what is served: golden requests, record of the ranking.

    Those of the precision that the CPU's verdict chose lie in the artefact itself, those of another one in its folder, and those of
    an approximate head in that head's folder.
    """
    if served_head(manifest) is Head.APPROXIMATE:
        return head_folder(artefact) / name
    own = model_folder(artefact, Precision(manifest.metrics["precision"])) / name
    return own if own.exists() else artefact / name


def served_files(artefact: Path, precision: Precision) -> list[Path]:
    """What ONNX Runtime reads for a precision."""
    files = [model_path(artefact, precision), model_folder(artefact, precision) / WEIGHTS_FILE]
    return [path for path in files if path.exists()]


def tensorrt_files(artefact: Path, precision: Precision) -> dict[str, Path]:
    """What a provider that builds TensorRT engines from the graph reads for a precision, by its name in a version folder."""
    graph = tensorrt_path(artefact, precision)
    files = {MODEL_FILE: graph, WEIGHTS_FILE: graph.with_name(WEIGHTS_FILE)}
    return {name: path for name, path in files.items() if path.exists()}


def artefact_names(name: str, precision: Precision) -> list[str]:
    """Where a file of a student's version may come from, as relative paths in the artefact: from what belongs to its precision."""
    folder = precision.value
    engines = {
        PLAN_FILE: f"{_ENGINES_FOLDER}/tensorrt/{folder}.plan",
        f"{PLAN_FILE}.json": f"{_ENGINES_FOLDER}/tensorrt/{folder}.plan.json",
    }
    if name == MODEL_FILE:
        return [f"{folder}/{MODEL_FILE}", f"{folder}/{TENSORRT_FILE}"]
    return [engines.get(name, f"{folder}/{name}"), f"{_HEAD_FOLDER}/{name}"]


def model_size_bytes(artefact: Path, precision: Precision) -> int:
    """Bytes of what ONNX Runtime reads for a precision."""
    return sum(path.stat().st_size for path in served_files(artefact, precision))
