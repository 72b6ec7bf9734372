"""The served version and a new one, asked the same requests in ONNX Runtime, without a server."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distilrec.core.errors import DataError, ManifestError
from distilrec.core.manifest import FILE_NAME, Manifest, read_manifest
from distilrec.core.runner import NOTHING_CHOSEN, Choices
from distilrec.core.specs import MODEL_FILE, MODEL_NAME, RecommenderSpec, spec_of_tensors
from distilrec.data import attributes
from distilrec.data import vocabulary as vocabularies
from distilrec.data.dataset import Dataset, HeldOut, held_out, load_dataset
from distilrec.data.vocabulary import Vocabulary, load_vocabulary
from distilrec.evaluation.ranking import Evaluation, compare_metrics, cuts, recommend_all, user_metrics
from distilrec.evaluation.slices import user_slices
from export.graph.onnx_runner import OnnxRunner
from export.repository.versions import parse_config, version_configs

JUDGED_USERS = 1000
"""Validation users that both versions are asked for; more would make a promotion long."""

FORMER, NEW = "served", "new"
"""Names of the two versions in an evaluation."""
_BATCH_SIZE = 64


@dataclass(frozen=True)
class Version:
    """A version of the repository that ONNX Runtime can run."""

    runner: OnnxRunner
    vocabulary: Vocabulary
    spec: RecommenderSpec


@dataclass(frozen=True)
class Versus:
    """Both versions' answers to the same validation users."""

    former: NDArray[np.int32]
    """int32 [U, k]: item indices of the new version, 0 for an item that it does not know."""
    new: NDArray[np.int32]
    """int32 [U, k]."""
    history: NDArray[np.int32]
    """int32 [U, L]."""
    evaluation: Evaluation
    """Of both, over all users and over each slice."""
    counts: NDArray[np.int64]
    """Training interactions of each item, int64 [N + 1]."""


def open_version(repository: Path, number: int) -> Version:
    """Open a version that lies in the repository.

    Raises:
        DataError: its target runs no ONNX model, or its vocabulary cannot be read.
        ParityError: ONNX Runtime cannot load it.
    """
    folder = repository / MODEL_NAME / str(number)
    if not (folder / MODEL_FILE).exists():
        raise DataError(f"{folder}: found no {MODEL_FILE}, expected a version that ONNX Runtime can run")
    config = parse_config(version_configs(repository, [MODEL_NAME], number)[MODEL_NAME])
    lengths = {tensor.name: tensor.dims[0] for tensor in (*config.input, *config.output)}
    spec = spec_of_tensors(int(config.parameters["item_count"].string_value), lengths)
    return Version(OnnxRunner(folder / MODEL_FILE, spec), load_vocabulary(folder / vocabularies.FILE_NAME), spec)


def compare_versions(former: Version, new: Version, data: Path) -> Versus:
    """Ask both versions for the validation users of the new one's run.

    Args:
        former: The version that serves.
        new: The version that is to serve.
        data: Folder of the data stage that the new version was made from.

    Raises:
        DataError: nobody can be judged, or the data cannot be read.
    """
    dataset = load_dataset(data, len(new.vocabulary))
    users = _spread(held_out(dataset, "validation", new.spec))
    answers = {
        FORMER: _answers_of_former(former, new, dataset, users),
        NEW: recommend_all(new.runner, users, _BATCH_SIZE, "new version")[0],
    }
    k = min(former.spec.top_k, new.spec.top_k)
    counts, ks = dataset.training_counts(), cuts(k)
    metrics = {name: user_metrics(items, users, counts, ks) for name, items in answers.items()}
    slices = user_slices(dataset, users, "validation", attributes.load(data))
    evaluation = compare_metrics(metrics, slices, references=[FORMER], ks=ks)
    length = min(k, 10)
    return Versus(answers[FORMER][:, :length], answers[NEW][:, :length], users.history, evaluation, counts)


def data_of(artefact: Path, manifest: Manifest) -> Path | None:
    """The data folder that an export was made from, where it lies next to the export; None where it does not."""
    wanted = manifest.inputs.get("data")
    for folder in sorted(path.parent for path in artefact.absolute().parent.glob(f"*/{FILE_NAME}")):
        try:
            if wanted is not None and read_manifest(folder).digest == wanted:
                return folder
        except ManifestError:
            continue
    return None


def _spread(users: HeldOut) -> HeldOut:
    """At most ``JUDGED_USERS`` of the users, spread evenly over the data set."""
    if not len(users.users):
        raise DataError("found no validation users with a history and something new after it, expected some to compare versions by")
    count = min(len(users.users), JUDGED_USERS)
    return users.rows(np.linspace(0, len(users.users) - 1, count).astype(np.int64))


def _answers_of_former(former: Version, new: Version, dataset: Dataset, users: HeldOut) -> NDArray[np.int32]:
    """The former version's answers in the new one's numbering of items: each has a vocabulary of its own."""
    to_former = np.array([0, *former.vocabulary.encode(new.vocabulary.item_ids)], np.int32)
    to_new = np.array([0, *new.vocabulary.encode(former.vocabulary.item_ids)], np.int32)
    asked = held_out(dataset, "validation", _sized(former.spec, new.spec))
    chosen = np.flatnonzero(np.isin(asked.users, users.users))
    if former.spec.repeats != new.spec.repeats or len(chosen) != len(users.users):
        raise DataError("found one version with repeats and one without, expected both alike: they answer other questions")
    same = asked.rows(chosen)
    choices: Choices = same.choices if same.choices else NOTHING_CHOSEN
    items = []
    for start in range(0, len(same.users), _BATCH_SIZE):
        rows = slice(start, start + _BATCH_SIZE)
        part = {name: values[rows] for name, values in choices.items()}
        items.append(former.runner.recommend(to_former[same.history[rows]], to_former[same.exclude[rows]], part)[0])
    return to_new[np.concatenate(items)]


def _sized(former: RecommenderSpec, new: RecommenderSpec) -> RecommenderSpec:
    """Requests of the former's lengths over the new one's items."""
    sizes = (new.item_count, former.history_length, former.exclude_length, former.top_k)
    return RecommenderSpec(*sizes, repeats=former.repeats)


def head_and_tail(counts: NDArray[np.int64], head: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """Masks of the two groups by popularity; padding belongs to neither."""
    tail = ~head
    tail[0] = False
    untouched = counts == 0
    untouched[0] = False
    groups = {"head items (the most popular 20 %)": head, "tail items": tail}
    return groups | ({"items without interactions": untouched} if untouched.any() else {})
