"""A model repository with the student twice: as it is served, and cut off before its top-K, so that all scores cross the wire."""

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


def fill(artefact: Path, config: ExportConfig) -> None:
    """Fill a repository with both, in FP32, from an export stage's folder.

    Raises:
        ManifestError: the artefact is not what its manifest says.
        RepositoryError: the repository cannot be written.
    """
    fill_repository(artefact, config)
    student = config.repository / MODEL_NAME
    version = student / str(FIRST_VERSION)
    shutil.copyfile(model_path(artefact, Precision.FP32), version / MODEL_FILE)
    scores = config.repository / SCORES_NAME
    (scores / version.name).mkdir(parents=True)
    shutil.copyfile(version / "model.py", scores / version.name / "model.py")
    output = cut_before_top_k(version / MODEL_FILE, scores / version.name / MODEL_FILE)
    served = text_format.Parse((student / "config.pbtxt").read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    served.name = SCORES_NAME
    del served.output[:]
    rows = table_rows(read_manifest(artefact).metrics["item_count"])
    served.output.add(name=output, data_type=model_config_pb2.TYPE_FP32, dims=[rows])
    (scores / "config.pbtxt").write_text(text_format.MessageToString(served), encoding="utf-8")


def cut_before_top_k(source: Path, target: Path) -> str:
    """Write the graph up to the scores that its last TopK takes; returns their name. They are masked: what is seen is very low."""
    model = onnx.load(source)
    scores = [node.input[0] for node in model.graph.node if node.op_type == "TopK"][-1]
    inputs = [tensor.name for tensor in model.graph.input]
    onnx.utils.extract_model(source, target, inputs, [scores])
    cut = onnx.load(target)
    # model.py holds it against config.pbtxt.
    onnx.helper.set_model_props(cut, {entry.key: entry.value for entry in model.metadata_props})
    onnx.save(cut, target)
    return str(scores)
