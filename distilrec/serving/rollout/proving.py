"""What is checked of a version before any server sees it."""

from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from distilrec.config import spec_of_artefact
from distilrec.core import golden
from distilrec.core.errors import DistilRecError, ParityError, RepositoryError
from distilrec.core.golden import Golden, load_golden
from distilrec.core.manifest import Manifest, sha256_of_file, verify_manifest
from distilrec.core.runner import Answer
from distilrec.core.specs import Precision, RecommenderSpec
from distilrec.data import vocabulary as vocabularies
from distilrec.data.vocabulary import load_vocabulary
from distilrec.evaluation.contract import BATCH_TOLERANCE, check_contract
from distilrec.evaluation.parity import compare
from export.artefact import model_path
from export.graph.onnx_runner import OnnxRunner


def prove_artefact(artefact: Path) -> Manifest:
    """Check all that can be checked of an export without a server.

    Raises:
        ManifestError: the artefact is not what its manifest says.
        RepositoryError: it is not an export, its vocabulary is another one, or its weights are broken.
        ParityError: ONNX Runtime does not give the golden answers, or the serving contract is broken.
        DataError: vocabulary or golden requests cannot be read.
    """
    manifest = verify_manifest(artefact)
    if not {"precision", "vocabulary_sha256", "item_count"} <= manifest.metrics.keys():
        raise RepositoryError(
            f"{artefact}: found an artefact of stage {manifest.stage!r}, expected an export. Make it: distilrec export"
        )
    spec, precision = spec_of_artefact(manifest), Precision(manifest.metrics["precision"])
    vocabulary = load_vocabulary(artefact / vocabularies.FILE_NAME)
    path = model_path(artefact, precision)
    runner = OnnxRunner(path, spec)
    in_model = runner.session.get_modelmeta().custom_metadata_map.get("vocabulary_sha256")
    if len({vocabulary.sha256, in_model, manifest.metrics["vocabulary_sha256"]}) != 1 or len(vocabulary) != spec.item_count:
        raise RepositoryError(
            f"{artefact}: found {path.name} for vocabulary {in_model}, the manifest for {manifest.metrics['vocabulary_sha256']}"
            f" with {spec.item_count} items, and {vocabularies.FILE_NAME} with {vocabulary.sha256} and {len(vocabulary)} items;"
            " expected one and the same. Export again: distilrec export"
        )
    refuse_nan(path)
    _prove_answers(runner, load_golden(artefact / golden.FILE_NAME), spec, BATCH_TOLERANCE[precision], artefact)
    return manifest


def refuse_nan(model: Path) -> None:
    """Raise RepositoryError when weights are no numbers: INT8 or top-K may turn them into answers that look sound."""
    for tensor in onnx.load(model).graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise RepositoryError(
                f"{model}: found {int(np.isnan(values).sum())} weight(s) in {tensor.name!r} that are no numbers, expected none."
                " Train again: distilrec student"
            )


def check_answers(golden_requests: Golden, found: Answer, tolerance: float, where: str) -> None:
    """Raise ParityError when answers to the golden requests are not the recorded ones, up to ties."""
    difference = compare(golden_requests.answer, found, tolerance)
    if not difference.max_score_error <= tolerance or difference.misplaced:
        raise ParityError(
            f"{where}: found {difference.misplaced} item(s) out of place and scores {difference.max_score_error:.2g} apart in"
            f" {difference.rows} golden answers, expected none and at most {tolerance}"
        )


def check_copy(artefact: Path, manifest: Manifest, folder: Path) -> None:
    """Raise RepositoryError when a staged version lacks model.py or holds another content than the artefact.

    Without model.py the load would never return, nor would any later one.
    """
    precision = manifest.metrics["precision"]
    if not (folder / "model.py").is_file() or not (folder / "model.py").stat().st_size:
        raise RepositoryError(f"{folder}: found no model.py, expected one; such a version hangs the server")
    for path in folder.iterdir():
        record = manifest.files.get(f"{precision}/{path.name}") or manifest.files.get(path.name)
        if record is not None and sha256_of_file(path) != record.sha256:
            raise RepositoryError(f"{path}: found another content than in {artefact}; was the artefact changed meanwhile?")


def prove_version(folder: Path, spec: RecommenderSpec, tolerance: float) -> None:
    """Check a version that lies in the repository before a server is told to load it again.

    Raises:
        DistilRecError: it is damaged.
    """
    if not (folder / "model.py").is_file():
        raise RepositoryError(f"{folder}: found no model.py, expected a whole version")
    path = folder / "model.onnx"
    if path.exists():
        runner = OnnxRunner(path, spec)
        refuse_nan(path)
        _prove_answers(runner, load_golden(folder / golden.FILE_NAME), spec, tolerance, folder)


def version_tolerance(folder: Path) -> float:
    """How far a version's scores may lie from its golden answers: by the precision its graph states, else the widest."""
    try:
        properties = {entry.key: entry.value for entry in onnx.load(folder / "model.onnx", load_external_data=False).metadata_props}
        return BATCH_TOLERANCE[Precision(properties["precision"])]
    except (OSError, KeyError, ValueError, DecodeError):
        return max(BATCH_TOLERANCE.values())


def _prove_answers(runner: OnnxRunner, expected: Golden, spec: RecommenderSpec, tolerance: float, where: Path) -> None:
    sizes = [array.shape[1] for array in vars(expected).values()]
    if sizes != [spec.history_length, spec.exclude_length, spec.top_k, spec.top_k] or not len(expected.history):
        raise RepositoryError(f"{where}: found golden requests of sizes {sizes} (L, E, K, K), expected those of {spec}")
    try:
        found = runner.recommend(expected.history, expected.exclude)
        check_answers(expected, found, tolerance, str(where))
        check_contract(runner, spec, expected.history, expected.exclude, tolerance)
    except DistilRecError:
        raise
    except Exception as error:  # ONNX Runtime has a class of its own for every status
        raise ParityError(f"{where}: ONNX Runtime cannot run it: {error}") from error
