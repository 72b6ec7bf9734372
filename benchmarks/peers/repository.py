"""A model repository with the student twice: as it is served, and without its top-K, so that all scores cross the wire."""

import shutil
from pathlib import Path

import onnx
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distilrec.config import ExportConfig
from distilrec.core.manifest import read_manifest
from distilrec.core.specs import FIRST_VERSION, MODEL_FILE, MODEL_NAME, Precision, table_rows
from export.artefact import model_path
from export.repository.fill import fill_repository

SCORES_NAME = "scores"
"""Name of the served model without top-K."""


def fill_peer_repository(artefact: Path, config: ExportConfig) -> None:
    """Fill a repository with both models in FP32.

    Args:
        artefact: Folder of the export stage.
        config: Settings of the export, with the repository's folder.

    Raises:
        ManifestError: The artefact does not match its manifest.
        RepositoryError: The repository cannot be written.
    """
    fill_repository(artefact, config)
    student = config.repository / MODEL_NAME
    version = student / str(FIRST_VERSION)
    shutil.copyfile(model_path(artefact, Precision.FP32), version / MODEL_FILE)
    scores = config.repository / SCORES_NAME
    (scores / version.name).mkdir(parents=True)
    shutil.copyfile(version / "model.py", scores / version.name / "model.py")
    output = cut_before_top_k(version / MODEL_FILE, scores / version.name / MODEL_FILE)
    scores_config = text_format.Parse((student / "config.pbtxt").read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    scores_config.name = SCORES_NAME
    del scores_config.output[:]
    rows = table_rows(read_manifest(artefact).metrics["item_count"])
    scores_config.output.add(name=output, data_type=model_config_pb2.TYPE_FP32, dims=[rows])
    (scores / "config.pbtxt").write_text(text_format.MessageToString(scores_config), encoding="utf-8")


def cut_before_top_k(source: Path, target: Path) -> str:
    """Write the part of a graph that ends with the input of its last TopK: the masked scores, in which seen items are very low.

    Args:
        source: ONNX file to read.
        target: ONNX file to write.

    Returns:
        Name of the scores' tensor, float32 [B, table rows].
    """
    model = onnx.load(source)
    scores = [node.input[0] for node in model.graph.node if node.op_type == "TopK"][-1]
    inputs = [tensor.name for tensor in model.graph.input]
    onnx.utils.extract_model(source, target, inputs, [scores])
    cut = onnx.load(target)
    # The served model.py compares this metadata with config.pbtxt.
    onnx.helper.set_model_props(cut, {entry.key: entry.value for entry in model.metadata_props})
    onnx.save(cut, target)
    return str(scores)
