"""Artefacts to exchange a served model for: edited weights, other sizes."""

import shutil

import numpy as np
import onnx
from onnx import numpy_helper

from distilrec.config import spec_of_artefact
from distilrec.core.golden import Golden, load_golden
from distilrec.core.manifest import read_manifest, record_files, write_manifest
from distilrec.core.specs import RecommenderSpec
from distilrec.data.vocabulary import Vocabulary
from distilrec.evaluation.parity import edge_requests
from export.graph.onnx_runner import OnnxRunner


def record(folder, spec=None, requests=None, **metrics):
    """Golden answers and manifest of an artefact whose model was edited."""
    manifest = read_manifest(folder)
    spec = spec or spec_of_artefact(manifest)
    former = load_golden(folder / "golden.npz")
    history, exclude = requests or (former.history, former.exclude)
    answer = OnnxRunner(folder / "fp32" / "model.onnx", spec).recommend(history, exclude)
    Golden(history, exclude, *answer).save(folder / "golden.npz")
    if spec != spec_of_artefact(manifest):
        (folder / "calibration.npz").unlink()
    sizes = {"history_length": spec.history_length, "exclude_length": spec.exclude_length, "top_k": spec.top_k}
    update = {"settings": manifest.settings | sizes, "metrics": manifest.metrics | metrics, "files": record_files(folder)}
    write_manifest(folder, manifest.model_copy(update=update))
    return folder


def edit_weights(folder, edit):
    path = folder / "fp32" / "model.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim == 2:
            tensor.CopyFrom(numpy_helper.from_array(edit(values).astype(np.float32), tensor.name))
    onnx.save(model, path)


def other_sizes(base, folder):
    import torch

    from distill.models.encoders import Recommender
    from distill.models.item_table import ItemTable
    from distill.models.students.mlp import MlpStudent
    from export.graph.onnx import export_onnx

    torch.manual_seed(0)
    spec = RecommenderSpec(item_count=40, history_length=8, exclude_length=5, top_k=10)
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("engines"))
    ids = tuple(f"new-{item}" for item in range(spec.item_count))
    vocabulary = Vocabulary(ids, ids)
    vocabulary.save(folder / "vocabulary.json")
    student = MlpStudent(ItemTable(spec.item_count, 8), spec.history_length, 16, (0.5, 0.9), 0.0)
    metadata = {"vocabulary_sha256": vocabulary.sha256, "item_count": "40", "precision": "fp32"}
    export_onnx(Recommender(student.eval(), spec).eval(), folder / "fp32" / "model.onnx", metadata)
    return record(folder, spec, edge_requests(spec), item_count=spec.item_count, vocabulary_sha256=vocabulary.sha256)


def with_precision_by_verdict(artefact, folder):
    """A copy of an export as if its settings had left the precision to the verdict; returns its folder."""
    shutil.copytree(artefact, folder)
    manifest = read_manifest(folder)
    write_manifest(folder, manifest.model_copy(update={"settings": manifest.settings | {"precision": "auto"}}))
    return folder
