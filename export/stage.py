"""Stage ``export``: the student as an ONNX file that has proved to answer as the PyTorch model."""

from pathlib import Path
from typing import Any

import numpy as np

from distill.encoders import Recommender
from distill.runner import TorchRunner
from distill.student_stage import load_student
from distilrec.config import Config
from distilrec.data import stage as data_stage
from distilrec.data import vocabulary as vocabularies
from distilrec.data.dataset import held_out
from distilrec.manifest import Manifest
from distilrec.specs import MODEL_FILE, Precision, RecommenderSpec
from distilrec.stage import Inputs, run_stage
from export.onnx import OPSET, export_onnx
from export.onnx_runner import OnnxRunner
from export.parity import SCORE_TOLERANCE, check_parity, edge_requests

_PARITY_USERS = 200


def recommender_spec(config: Config, item_count: int) -> RecommenderSpec:
    """Sizes of the served model."""
    return RecommenderSpec(item_count, config.history_length, config.export.exclude_length, min(config.export.top_k, item_count))


def run(config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Export the student. Inputs: data, student.

    Raises:
        ParityError: ONNX Runtime does not answer as PyTorch does; no artefact is left behind.
    """

    def work(folder: Path, _scratch: Path) -> dict[str, Any]:
        dataset, vocabulary = data_stage.load(inputs["data"])
        spec = recommender_spec(config, len(vocabulary))
        student = load_student(config, inputs["student"], len(vocabulary))
        metadata = {"vocabulary_sha256": vocabulary.sha256, "item_count": str(spec.item_count), "precision": Precision.FP32.value}
        export_onnx(Recommender(student, spec).eval(), folder / MODEL_FILE, metadata)
        vocabulary.save(folder / vocabularies.FILE_NAME)

        users = held_out(dataset, "validation", spec, max_users=_PARITY_USERS)
        edge_history, edge_exclude = edge_requests(spec)
        history = np.concatenate([edge_history, users.history])
        exclude = np.concatenate([edge_exclude, users.exclude])
        parity = check_parity(TorchRunner(student, spec), OnnxRunner(folder / MODEL_FILE, spec), history, exclude)
        return {
            "item_count": spec.item_count,
            "vocabulary_sha256": vocabulary.sha256,
            "parity_rows": parity.rows,
            "parity_max_score_error": parity.max_score_error,
            "parity_tied_items": parity.tied,
        }

    settings = {
        "history_length": config.history_length,
        "exclude_length": config.export.exclude_length,
        "top_k": config.export.top_k,
        "opset": OPSET,
        "precision": Precision.FP32.value,
        "score_tolerance": SCORE_TOLERANCE,
    }
    return run_stage("export", settings=settings, seed=config.seed, inputs=inputs, out_dir=out_dir, work=work)
