"""Checks of a version's files before any server loads it: digests, vocabulary, weights and golden answers in ONNX Runtime.

The checks of a version that a server has loaded are in ``live_checks``.
"""

from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from distilrec.config import ExportConfig, spec_of_artefact
from distilrec.core import golden
from distilrec.core.errors import DistilRecError, ParityError, RepositoryError
from distilrec.core.golden import Golden, load_golden
from distilrec.core.manifest import Manifest, sha256_of_file, verify_manifest
from distilrec.core.runner import Answer
from distilrec.core.specs import MODEL_FILE, PLAN_FILE, Head, Precision, spec_of_tensors
from distilrec.data import item_filters
from distilrec.data import vocabulary as vocabularies
from distilrec.data.item_filters import ItemFilters, load_filters
from distilrec.data.vocabulary import load_vocabulary
from distilrec.evaluation.contract import BATCH_TOLERANCE, check_contract
from distilrec.evaluation.parity import compare
from export.artefact import ENCODER_FILE, artefact_names, head_folder, model_path, proof_path, served_head
from export.engines.plan import check_undamaged
from export.graph.onnx_runner import OnnxRunner
from export.heads.runner import ApproximateRunner, ServedRunner, served_runner
from export.repository.target import manifest_for_target, serving_target
from export.repository.versions import parse_config


def check_artefact(artefact: Path, config: ExportConfig) -> Manifest:
    """Check all that can be checked of an export without a server.

    Args:
        artefact: Folder of the export stage.
        config: Settings with the target.

    Returns:
        The export's manifest, with the precision that the target serves.

    Raises:
        ManifestError: the artefact is not what its manifest says.
        RepositoryError: it is not an export, its vocabulary is another one, its weights are broken, or the target cannot run it.
        ParityError: ONNX Runtime does not give the golden answers, or the serving contract is broken.
        DataError: vocabulary or golden requests cannot be read.
    """
    manifest = verify_manifest(artefact)
    if not {"precision", "vocabulary_sha256", "item_count"} <= manifest.metrics.keys():
        raise RepositoryError(
            f"{artefact}: found an artefact of stage {manifest.stage!r}, expected an export. Make it: distilrec export"
        )
    manifest = manifest_for_target(manifest, config)
    serving_target(config).check_fit(artefact, manifest, config)
    spec, precision = spec_of_artefact(manifest), Precision(manifest.metrics["precision"])
    approximate = served_head(manifest) is Head.APPROXIMATE
    path = head_folder(artefact) / ENCODER_FILE if approximate else model_path(artefact, precision)
    runner = served_runner(artefact, manifest, spec)
    _check_vocabulary(artefact, manifest, runner, path.name)
    check_weights(path)
    filters = load_filters(artefact / item_filters.FILE_NAME)
    if (filters is not None) != (spec.filter_length > 0):
        raise RepositoryError(
            f"{artefact}: found filter_length {spec.filter_length} with{'' if filters else 'out'} {item_filters.FILE_NAME},"
            " expected both or none. Export again: distilrec export"
        )
    requests = load_golden(proof_path(artefact, manifest, golden.FILE_NAME))
    tolerance = BATCH_TOLERANCE[Precision.FP32 if approximate else precision]
    _check_golden_answers(runner, requests, artefact, tolerance, filters=filters)
    return manifest


def _check_vocabulary(artefact: Path, manifest: Manifest, runner: ServedRunner, model: str) -> None:
    """Refuse a graph, a manifest and a vocabulary that are not of one catalogue."""
    vocabulary, item_count = load_vocabulary(artefact / vocabularies.FILE_NAME), runner.spec.item_count
    in_model = runner.vocabulary_sha256
    if len({vocabulary.sha256, in_model, manifest.metrics["vocabulary_sha256"]}) != 1 or len(vocabulary) != item_count:
        raise RepositoryError(
            f"{artefact}: found {model} for vocabulary {in_model}, the manifest for {manifest.metrics['vocabulary_sha256']}"
            f" with {item_count} items, and {vocabularies.FILE_NAME} with {vocabulary.sha256} and {len(vocabulary)} items;"
            " expected one and the same. Export again: distilrec export"
        )


def check_version(folder: Path, config_text: str) -> None:
    """Check a version that lies in the repository already, before a server loads it again.

    Args:
        folder: The student's version folder.
        config_text: The version's own config.pbtxt.

    Raises:
        DistilRecError: the version is damaged.
    """
    _check_model_py(folder)
    path = next((folder / name for name in (MODEL_FILE, ENCODER_FILE) if (folder / name).exists()), None)
    if path is not None:
        config = parse_config(config_text)
        dims = {tensor.name: tensor.dims[0] for tensor in (*config.input, *config.output)}
        item_count = int(config.parameters["item_count"].string_value)
        spec = spec_of_tensors(item_count, dims)
        runner: ServedRunner = OnnxRunner(path, spec) if path.name == MODEL_FILE else ApproximateRunner(folder, spec)
        check_weights(path)
        filters = load_filters(folder / item_filters.FILE_NAME)
        requests = load_golden(folder / golden.FILE_NAME)
        _check_golden_answers(runner, requests, folder, version_tolerance(folder), filters=filters)
    if (folder / PLAN_FILE).exists():
        check_undamaged(folder / PLAN_FILE)


def check_copy(artefact: Path, manifest: Manifest, folder: Path) -> None:
    """Raise RepositoryError when a staged version lacks model.py or holds another content than the artefact."""
    _check_model_py(folder)
    precision = Precision(manifest.metrics["precision"])
    for path in folder.iterdir():
        own = [manifest.files[name] for name in artefact_names(path.name, precision) if name in manifest.files]
        records = own or [manifest.files[name] for name in (path.name,) if name in manifest.files]
        if records and sha256_of_file(path) not in {record.sha256 for record in records}:
            raise RepositoryError(f"{path}: found another content than in {artefact}; was the artefact changed meanwhile?")


def check_weights(model: Path) -> None:
    """Raise RepositoryError when an ONNX model has weights that are NaN: INT8 or top-K may turn them into plausible answers."""
    for tensor in onnx.load(model).graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise RepositoryError(
                f"{model}: found {int(np.isnan(values).sum())} weight(s) in {tensor.name!r} that are no numbers, expected none."
                " Train again: distilrec student"
            )


def check_answers(golden_requests: Golden, answer: Answer, tolerance: float, where: str) -> None:
    """Raise ParityError when answers to the golden requests are not the recorded ones, up to ties.

    Args:
        golden_requests: The requests, with the recorded answers.
        answer: Items int32 [B, K] and scores float32 [B, K] that were given for them.
        tolerance: Largest difference of a score from its golden one.
        where: Beginning of the error message: the model that answered.
    """
    difference = compare(golden_requests.answer, answer, tolerance)
    if not difference.max_score_error <= tolerance or difference.misplaced:
        raise ParityError(
            f"{where}: found {difference.misplaced} item(s) out of place and scores {difference.max_score_error:.2g} apart in"
            f" {difference.rows} golden answers, expected none and at most {tolerance}"
        )


def version_tolerance(folder: Path) -> float:
    """How far a version's scores may lie from its golden answers: by the precision its graph states, else the widest."""
    try:
        path = folder / (ENCODER_FILE if (folder / ENCODER_FILE).exists() else MODEL_FILE)
        properties = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
        return BATCH_TOLERANCE[Precision(properties["precision"])]
    except (OSError, KeyError, ValueError, DecodeError):
        return max(BATCH_TOLERANCE.values())


def _check_model_py(folder: Path) -> None:
    """Without model.py the load would never return, nor would any later load."""
    path = folder / "model.py"
    if not path.is_file() or not path.stat().st_size:
        raise RepositoryError(f"{folder}: found no model.py, expected one; such a version hangs the server")


def _check_golden_answers(
    runner: ServedRunner, requests: Golden, folder: Path, tolerance: float, *, filters: ItemFilters | None
) -> None:
    spec = runner.spec
    sizes = [array.shape[1] for array in (requests.history, requests.exclude, *requests.answer)]
    choices = {name: values.shape[1:] for name, values in requests.choices.items()}
    if choices != (expected := {tensor.name: tensor.shape for tensor in spec.choices}):
        raise RepositoryError(f"{folder}: found golden requests with the optional tensors {choices}, expected {expected}")
    if sizes != [spec.history_length, spec.exclude_length, spec.top_k, spec.top_k] or not len(requests.history):
        raise RepositoryError(f"{folder}: found golden requests of sizes {sizes} (L, E, K, K), expected those of {spec}")
    try:
        chosen = requests.choices
        answer = runner.recommend(requests.history, requests.exclude, chosen)
        check_answers(requests, answer, tolerance, str(folder))
        check_contract(runner, spec, requests.history, requests.exclude, tolerance, choices=chosen, filters=filters)
    except DistilRecError:
        raise
    except Exception as error:  # ONNX Runtime has a class of its own for every status
        raise ParityError(f"{folder}: ONNX Runtime cannot run it: {error}") from error
