"""Teacher kind ``external``: lists of items that anybody's model has written into Parquet files."""

import warnings
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor

from distill.data.indices import columns_of
from distill.data.sequences import training_targets
from distill.models.encoders import Scorer
from distill.models.teachers._base import ListedTeacherConfig
from distill.models.teachers.list_calibration import fit_outside, fit_temperature, log_probabilities
from distill.models.teachers.list_matching import (
    Matches,
    are_training,
    history_key,
    list_offsets,
    match_histories,
    match_users,
    with_items_alone,
)
from distill.models.teachers.prefix_encoder import prefixes_at
from distill.models.weights import WEIGHTS
from distilrec.config import TextConfig
from distilrec.core.errors import DataError, DataWarning
from distilrec.core.manifest import sha256_of_file
from distilrec.core.specs import PADDING, table_rows
from distilrec.data import stage as data_stage
from distilrec.data import user_ids
from distilrec.data.dataset import Dataset
from distilrec.data.recommendation_lists import RecommendationLists, list_files, read_lists

_ENOUGH_HELD_BACK = 100
"""Lists with a held-back next item from which on these alone calibrate."""
_MOST_TO_CALIBRATE = 20_000

_LEFT_OUT = (
    "unknown_items",
    "unknown_items_of_histories",
    "repeated_items",
    "lists_of_unknown_users",
    "lists_for_no_prefix",
    "repeated_lists",
    "lists_without_a_known_item",
)
"""Names of the counts of what is left out."""


class ExternalTeacherConfig(ListedTeacherConfig):
    """Lists of items that anybody's model has written into Parquet files."""

    kind: Literal["external"] = "external"
    summary = "Lists of items that another model wrote. The student learns from them; they are not served."
    lists: Path
    """Parquet file, or folder of ``*.parquet``. A row is a list: ``item_ids`` and, if there are any, ``scores``, for the user
    ``user_id`` after the first ``position`` items, or for the item ids in ``history``. Without ``position`` a list is for the
    whole training part of the user's sequence. Without ``scores``, minus the logarithm of the rank is the score."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """Divides the scores; None fits it to true next items."""
    outside: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Probability of all items together that are not in a list; None fits it to true next items."""

    def recorded(self, text: TextConfig) -> dict[str, Any]:  # noqa: ARG002
        """See ``TeacherConfig``; digests stand for the files."""
        digests = {path.name: sha256_of_file(path) for path in list_files(self.lists)}
        return self.model_dump(mode="json", exclude={"lists"}) | {"lists_sha256": digests}

    def read(self, data: Path, history_length: int) -> tuple["ExternalTeacher", dict[str, Any]]:
        """See ``ListedTeacherConfig``."""
        dataset, vocabulary = data_stage.load(data)
        found = read_lists(self.lists, vocabulary)
        if found.user_ids is None:
            matched = match_histories(found, dataset, vocabulary, history_length)
        else:
            matched = match_users(found, dataset, user_ids.load(data))
        matched = with_items_alone(matched, found)
        trained = are_training(matched.prefixes, dataset)
        facts = _facts(found, matched) | {"training_prefixes_with_a_list": int(trained.sum())}
        if not trained.any():
            raise DataError(
                f"{self.lists}: found {len(found):,} lists, of which none is for a prefix of a training sequence and holds a known"
                f" item ({_in_words(facts)}), expected ids and positions of this run's data. Compare them with your interactions."
            )
        facts["warnings"] = _warnings(self.lists, facts)
        calibration = calibrate(found, matched, dataset, self.temperature, self.outside)
        return _teacher(found, matched, dataset, calibration, history_length), facts | calibration._asdict()

    def save(self, teacher: Any, folder: Path) -> None:
        """See ``ListedTeacherConfig``."""
        save_file({name: tensor.contiguous() for name, tensor in teacher.state.items()}, folder / WEIGHTS)

    def load(self, folder: Path, item_count: int, history_length: int) -> "ExternalTeacher":  # noqa: ARG002
        """See ``TeacherConfig``."""
        return ExternalTeacher(load_file(folder / WEIGHTS), item_count).eval()

    def unlisted(self, folder: Path, histories: NDArray[np.int32]) -> NDArray[np.bool_]:
        """See ``TeacherConfig``."""
        known = _list_of_history(load_file(folder / WEIGHTS))
        return np.array([history_key(row) not in known for row in histories], np.bool_)


class ExternalTeacher(Scorer):
    """Log-probabilities over the catalogue from lists; what is outside a list shares the rest evenly.

    It scores the prefixes it has lists for, and of whole histories those at the cuts of validation and test.

    Args:
        state: Tensors by name: ``offsets`` int64 [R + 1], ``items`` int32 [E] and ``log_probabilities`` float32 [E] of the lists,
            ``outside`` float32 [R] (log-probability of each item outside); ``prefixes`` int64 [P], flat positions in rising order,
            and ``lists`` int64 [P], their lists; ``histories`` int32 [C, L], left-padded, and ``history_lists`` int64 [C].
        item_count: N.
    """

    def __init__(self, state: dict[str, Tensor], item_count: int) -> None:
        super().__init__()
        self.state = state
        self.item_count = item_count
        self._known = _list_of_history(state)

    @property
    def longest(self) -> int:
        """Items of the longest list."""
        return int(self.state["offsets"].diff().max())

    def scores_of(self, lists: Tensor) -> Tensor:
        """Log-probabilities of items 1..N of some lists. int64 [M] -> float32 [M, N]."""
        begins, lengths = self.state["offsets"][lists], self.state["offsets"].diff()[lists]
        rows = torch.repeat_interleave(torch.arange(len(lists)), lengths)
        shifts = begins - (lengths.cumsum(dim=0) - lengths)
        entries = torch.arange(len(rows)) + shifts[rows]
        scores = self.state["outside"][lists][:, None].repeat(1, self.item_count)
        scores[rows, columns_of(self.state["items"][entries].long())] = self.state["log_probabilities"][entries]
        return scores

    def score_prefixes(self, history: Tensor, valid: Tensor) -> Tensor:
        """See ``Scorer``; only for histories that ``score_last`` knows."""
        prefixes, _ = prefixes_at(history, valid)
        return self.score_last(prefixes)[:, 1 : self.item_count + 1]

    def score_last(self, history: Tensor) -> Tensor:
        """See ``Scorer``; 0 in rows without an item.

        Raises:
            DataError: There is no list for a history.
        """
        lists = [self._known.get(history_key(row)) for row in history.cpu().numpy().astype(np.int32)]
        missing = sum(found is None for found in lists)
        if missing:
            raise DataError(
                f"found {missing} of {len(lists)} histories without a list of the external teacher, expected one for each"
            )
        scores = self.scores_of(torch.tensor(lists, dtype=torch.int64))
        return torch.nn.functional.pad(scores, (1, table_rows(self.item_count) - self.item_count - 1))

    def parameter_count(self) -> int:
        """Log-probabilities in all lists."""
        return self.state["log_probabilities"].numel()


class Calibration(NamedTuple):
    """How scores become log-probabilities (``list_calibration``)."""

    temperature: float
    outside: float
    calibrated_on: Literal["held-back items", "training items", "settings"]
    """Which next items were fitted: those of the validation part, or, where too few lists have one, those of the training part."""
    calibration_lists: int
    calibration_hits: int
    """Lists that hold the true next item."""


def calibrate(
    found: RecommendationLists, matched: Matches, dataset: Dataset, temperature: float | None, outside: float | None
) -> Calibration:
    """Fit what is None to the true next items: held-back ones, which the external model did not see, where there are enough.

    Raises:
        DataError: No list has a known next item.
    """
    if temperature is not None and outside is not None:
        return Calibration(temperature, outside, "settings", 0, 0)
    truth, held_back = _next_items(matched.prefixes, dataset)
    on_held_back = int((held_back & (truth != PADDING)).sum()) >= _ENOUGH_HELD_BACK
    judged = np.flatnonzero((truth != PADDING) & (held_back if on_held_back else ~held_back))
    if not len(judged):
        raise DataError(
            "found no list of the external teacher with a known next item, expected some to fit temperature and outside to."
            " Set both in its section"
        )
    judged = judged[:: -(-len(judged) // _MOST_TO_CALIBRATE)]
    owners, scores, is_true = _entries_of(found, matched.lists[judged], truth[judged])
    hits = int(is_true.sum())
    return Calibration(
        fit_temperature(owners, scores, is_true) if temperature is None else temperature,
        fit_outside(hits, len(judged)) if outside is None else outside,
        "held-back items" if on_held_back else "training items",
        len(judged),
        hits,
    )


def _next_items(prefixes: NDArray[np.int64], dataset: Dataset) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The item after each prefix in its user's training or validation part (else 0), and whether it is of the validation part."""
    users = np.searchsorted(dataset.offsets, prefixes, side="right") - 1
    following = prefixes - dataset.offsets[users] + 1
    held_back = following >= dataset.validation_start[users]
    inside = following < dataset.test_start[users]
    validation = np.where(inside, dataset.items[np.minimum(prefixes + 1, len(dataset.items) - 1)], PADDING)
    return np.where(held_back, validation, training_targets(dataset)[prefixes]), held_back


def _entries_of(
    found: RecommendationLists, lists: NDArray[np.int64], truth: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Entries of M lists (int64 [M], truth int32 [M]): owners 0..M - 1 int64 [e], scores float64 [e] and is_true bool [e]."""
    offsets = list_offsets(found)
    lengths = np.diff(offsets)[lists]
    owners = np.repeat(np.arange(len(lists)), lengths)
    entries = np.arange(len(owners)) + (offsets[lists] - (np.cumsum(lengths) - lengths))[owners]
    return owners, found.scores[entries], found.items[entries] == truth[owners]


def _teacher(
    found: RecommendationLists, matched: Matches, dataset: Dataset, calibration: Calibration, history_length: int
) -> ExternalTeacher:
    offsets = list_offsets(found)
    in_lists = log_probabilities(found.owners, found.scores, calibration.temperature, calibration.outside)
    others = np.maximum(dataset.item_count - np.diff(offsets), 1)
    users = np.searchsorted(dataset.offsets, matched.prefixes, side="right") - 1
    lengths = matched.prefixes - dataset.offsets[users] + 1
    cuts = (lengths == dataset.validation_start[users]) | (lengths == dataset.test_start[users])
    histories = np.full((int(cuts.sum()), history_length), PADDING, np.int32)
    for row, (end, length) in enumerate(zip(matched.prefixes[cuts] + 1, lengths[cuts], strict=True)):
        read = min(int(length), history_length)
        histories[row, history_length - read :] = dataset.items[end - read : end]
    state = {
        "offsets": offsets,
        "items": found.items,
        "log_probabilities": in_lists.astype(np.float32),
        "outside": np.log(calibration.outside / others).astype(np.float32),
        "prefixes": matched.prefixes,
        "lists": matched.lists,
        "histories": histories,
        "history_lists": matched.lists[cuts],
    }
    return ExternalTeacher({name: torch.from_numpy(array) for name, array in state.items()}, dataset.item_count)


def _list_of_history(state: dict[str, Tensor]) -> dict[bytes, int]:
    """List of each known history; of two users with the same newest items, the first one's."""
    known: dict[bytes, int] = {}
    for history, number in zip(state["histories"].numpy(), state["history_lists"].tolist(), strict=True):
        known.setdefault(history_key(history), number)
    return known


def _facts(found: RecommendationLists, matched: Matches) -> dict[str, Any]:
    return {
        "lists": len(found),
        "unknown_items": found.unknown_items,
        "unknown_items_of_histories": matched.unknown_in_histories,
        "repeated_items": found.repeated_items,
        "lists_of_unknown_users": matched.unknown_users,
        "lists_for_no_prefix": matched.unmatched,
        "repeated_lists": matched.repeated,
        "lists_without_a_known_item": int((np.diff(list_offsets(found)) == 0).sum()),
        "scores": "of the files" if found.has_scores else "minus log of the rank",
    }


def _in_words(facts: dict[str, Any]) -> str:
    return ", ".join(f"{facts[name]:,} {name.replace('_', ' ')}" for name in _LEFT_OUT if facts[name])


def _warnings(path: Path, facts: dict[str, Any]) -> list[str]:
    """What was left out, as a warning that is also raised; empty if nothing was."""
    words = _in_words(facts)
    if not words:
        return []
    message = f"{path}: of {facts['lists']:,} lists these parts are left out: {words}"
    warnings.warn(message, DataWarning, stacklevel=3)
    return [message]
