"""What one update leaves to the next: a part of the history whose size is bounded, in place of the history.

exemplars.npz       sequences that are replayed, chosen across items and time
requests.npz        earlier held-out users, by whom forgetting is judged
recent.npz          the newest items of the users who came last, with ``recent_users.json``
counts.npy          training interactions of each item
later.parquet       events that are learned from later
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from distilrec.config import UpdateConfig
from distilrec.core.files import write_text
from distilrec.core.specs import RecommenderSpec
from distilrec.data import user_ids
from distilrec.data.dataset import Dataset, load_dataset
from distilrec.data.ragged import Ragged
from distilrec.data.vocabulary import FILE_NAME as VOCABULARY
from distilrec.data.vocabulary import load_vocabulary

EVENTS = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Float64}
"""Columns of events."""

_COUNTS, _USERS, _LATER, _LAST = "counts.npy", "recent_users.json", "later.parquet", "last_time.json"


@dataclass(frozen=True)
class Exemplars:
    """Earlier sequences that stand for all of them."""

    sequences: Ragged
    """At most L + 1 items each."""
    first_target: NDArray[np.int64]
    """int64 [S]: place in the sequence of the first item that may be predicted; the items before it are context."""
    update: NDArray[np.int64]
    """int64 [S]: number of the update in which they were new, 0 for the training."""
    weight: float
    """Number of sequences that each stands for."""

    def rows(self, rows: NDArray[np.int64], weight: float) -> "Exemplars":
        """Some of them, each of which stands for ``weight`` sequences."""
        return Exemplars(self.sequences.rows(rows), self.first_target[rows], self.update[rows], weight)


@dataclass(frozen=True)
class Requests:
    """Held-out users with their right answers."""

    histories: Ragged
    """At most the L + E items that a request can name."""
    truths: Ragged
    update: NDArray[np.int64]
    """int64 [U]: number of the update in which they were new, 0 for the training."""
    weight: float
    """Number of users that each stands for."""

    def rows(self, rows: NDArray[np.int64], weight: float) -> "Requests":
        """Some of them, each of which stands for ``weight`` users."""
        return Requests(self.histories.rows(rows), self.truths.rows(rows), self.update[rows], weight)


@dataclass(frozen=True)
class UpdateState:
    """What one update leaves to the next."""

    counts: NDArray[np.int64]
    """int64 [N + 1]: training interactions of each item; 0 for padding."""
    users: tuple[str, ...]
    """Ids of the remembered users, those who came last at the end."""
    recent: Ragged
    """Their newest items, at most the L + E that a request can name."""
    exemplars: Exemplars
    requests: Requests
    later: pl.DataFrame
    """Events (``EVENTS``) that are learned from later: those that early stopping needed, and those of unknown items."""
    last_time: float
    """Time of the newest event."""


def systematic_sample(
    weights: NDArray[np.float64], keys: tuple[NDArray[np.int64], ...], budget: int, seed: int
) -> NDArray[np.int64]:
    """Choose rows with probabilities in proportion to their weights, evenly over all groups of their keys.

    Rows are put in the order of their keys, and every so many units of weight one is taken (systematic sampling, Madow 1949). A
    group of a share p of the weight gets a share p of the rows, give or take one, as long as no row has more weight than one step.

    Args:
        weights: float64 [n].
        keys: Keys to spread the choice over, the most important first, int64 [n] each.
        budget: Number of rows; all are taken where there are fewer.
        seed: Random seed of the first row.

    Returns:
        int64 [at most budget], ascending.
    """
    if len(weights) <= budget:
        return np.arange(len(weights))
    order = np.lexsort((np.arange(len(weights)), *reversed(keys)))
    reached = np.cumsum(weights[order])
    step = reached[-1] / budget
    points = step * (np.arange(budget) + np.random.default_rng(seed).random())
    chosen: NDArray[np.int64] = np.unique(order[np.minimum(np.searchsorted(reached, points, side="right"), len(order) - 1)])
    return chosen


def choose_exemplars(former: Exemplars, new: Exemplars, budget: int, seed: int) -> Exemplars:
    """Choose what is replayed from now on: spread over items by their share, and over time (ADER, Mi et al. 2020, chooses by item).

    Args:
        former: Exemplars so far.
        new: New sequences.
        budget: Most exemplars.
        seed: Random seed of the choice.
    """
    both = Exemplars(
        former.sequences.then(new.sequences),
        np.concatenate([former.first_target, new.first_target]),
        np.concatenate([former.update, new.update]),
        1.0,
    )
    weights = _weights(former, new, len(former.update), len(new.update))
    newest_items = both.sequences.items[both.sequences.offsets[1:] - 1].astype(np.int64)
    rows = systematic_sample(weights, (both.update, newest_items), budget, seed)
    return both.rows(rows, float(weights.sum() / max(len(rows), 1)))


def choose_requests(former: Requests, new: Requests, budget: int, seed: int) -> Requests:
    """Choose who is judged from now on, spread over time; arguments as in ``choose_exemplars``."""
    both = Requests(
        former.histories.then(new.histories), former.truths.then(new.truths), np.concatenate([former.update, new.update]), 1.0
    )
    weights = _weights(former, new, len(former.update), len(new.update))
    rows = systematic_sample(weights, (both.update,), budget, seed)
    return both.rows(rows, float(weights.sum() / max(len(rows), 1)))


def _weights(former: Exemplars | Requests, new: Exemplars | Requests, formers: int, news: int) -> NDArray[np.float64]:
    return np.concatenate([np.full(formers, former.weight), np.full(news, new.weight)])


def newest(sequence: NDArray[np.int32], spec: RecommenderSpec) -> NDArray[np.int32]:
    """The newest items of a sequence that a request can name, int32 [at most L + E]."""
    return sequence[-(spec.history_length + spec.exclude_length) :]


def truth_of(seen: NDArray[np.int32], future: NDArray[np.int32], spec: RecommenderSpec) -> NDArray[np.int32]:
    """Right answers of a held-out user: new items, and seen ones where the recommender can repeat. int32 [n]."""
    truth: NDArray[np.int32] = np.unique(future) if spec.repeats else np.setdiff1d(future, seen)
    return truth


def trained_state(folder: Path, spec: RecommenderSpec, *, settings: UpdateConfig, last_time: float, seed: int) -> UpdateState:
    """What a training leaves to its first update.

    Args:
        folder: Folder of the stage ``data``.
        spec: Sizes of the requests.
        settings: Section ``update``.
        last_time: Time of the newest event of the training's data.
        seed: Random seed of the choices.
    """
    users = settings.remembered_users
    vocabulary = load_vocabulary(folder / VOCABULARY)
    dataset, ids = load_dataset(folder, len(vocabulary)), user_ids.load(folder)
    recent = [newest(dataset.sequence(user), spec) for user in range(max(dataset.user_count - users, 0), dataset.user_count)]
    return UpdateState(
        counts=dataset.training_counts(),
        users=ids[-users:],
        recent=Ragged.of(recent),
        exemplars=_trained_exemplars(dataset, spec.history_length, settings.exemplars, seed),
        requests=_trained_requests(dataset, spec, settings.judged_users, seed),
        later=pl.DataFrame(schema=EVENTS),
        last_time=last_time,
    )


def _trained_exemplars(dataset: Dataset, history_length: int, budget: int, seed: int) -> Exemplars:
    """The newest training window of each user, and a choice of them."""
    ends = dataset.validation_start
    users = np.flatnonzero(ends >= 2)
    last = dataset.items[dataset.offsets[users] + ends[users] - 1].astype(np.int64)
    rows = users[systematic_sample(np.ones(len(users)), (last,), budget, seed)]
    sequences = Ragged.of([dataset.sequence(user)[: ends[user]][-history_length - 1 :] for user in rows])
    return Exemplars(sequences, np.ones(len(rows), np.int64), np.zeros(len(rows), np.int64), len(users) / max(len(rows), 1))


def _trained_requests(dataset: Dataset, spec: RecommenderSpec, budget: int, seed: int) -> Requests:
    """Users of the test split, and a choice of them."""
    starts = dataset.test_start
    pairs = ((dataset.sequence(user)[:start], dataset.sequence(user)[start:]) for user, start in enumerate(starts))
    judged = [(newest(seen, spec), truth) for seen, future in pairs if len(seen) and len(truth := truth_of(seen, future, spec))]
    rows = systematic_sample(np.ones(len(judged)), (), budget, seed)
    histories, truths = (Ragged.of([judged[row][part] for row in rows]) for part in (0, 1))
    return Requests(histories, truths, np.zeros(len(rows), np.int64), len(judged) / max(len(rows), 1))


def has_state(folder: Path) -> bool:
    """Whether a data folder is that of an update, rather than of a training."""
    return (folder / _COUNTS).exists()


def save_state(state: UpdateState, folder: Path) -> None:
    """Write what ``load_state`` reads."""
    np.save(folder / _COUNTS, state.counts)
    write_text(folder / _USERS, json.dumps(list(state.users), ensure_ascii=False) + "\n")
    np.savez(folder / "recent.npz", items=state.recent.items, offsets=state.recent.offsets)
    save_exemplars(state.exemplars, folder / "exemplars.npz")
    save_requests(state.requests, folder / "requests.npz")
    state.later.write_parquet(folder / _LATER)
    write_text(folder / _LAST, json.dumps(state.last_time) + "\n")


def load_state(folder: Path) -> UpdateState:
    """Read what ``save_state`` wrote."""
    recent = np.load(folder / "recent.npz")
    return UpdateState(
        counts=np.load(folder / _COUNTS),
        users=tuple(json.loads((folder / _USERS).read_text(encoding="utf-8"))),
        recent=Ragged(recent["items"], recent["offsets"]),
        exemplars=load_exemplars(folder / "exemplars.npz"),
        requests=load_requests(folder / "requests.npz"),
        later=pl.read_parquet(folder / _LATER),
        last_time=float(json.loads((folder / _LAST).read_text(encoding="utf-8"))),
    )


def save_exemplars(exemplars: Exemplars, path: Path) -> None:
    """Write an .npz file."""
    sequences = exemplars.sequences
    np.savez(
        path,
        items=sequences.items,
        offsets=sequences.offsets,
        first_target=exemplars.first_target,
        update=exemplars.update,
        weight=np.float64(exemplars.weight),
    )


def load_exemplars(path: Path) -> Exemplars:
    """Read what ``save_exemplars`` wrote."""
    found = np.load(path)
    sequences = Ragged(found["items"], found["offsets"])
    return Exemplars(sequences, found["first_target"], found["update"], float(found["weight"]))


def save_requests(requests: Requests, path: Path) -> None:
    """Write an .npz file."""
    np.savez(
        path,
        histories=requests.histories.items,
        history_offsets=requests.histories.offsets,
        truths=requests.truths.items,
        truth_offsets=requests.truths.offsets,
        update=requests.update,
        weight=np.float64(requests.weight),
    )


def load_requests(path: Path) -> Requests:
    """Read what ``save_requests`` wrote."""
    found = np.load(path)
    histories, truths = (
        Ragged(found[items], found[f"{one}_offsets"]) for items, one in (("histories", "history"), ("truths", "truth"))
    )
    return Requests(histories, truths, found["update"], float(found["weight"]))


def grown(state: UpdateState, item_count: int) -> UpdateState:
    """The state for a catalogue of more items."""
    counts = np.pad(state.counts, (0, item_count + 1 - len(state.counts)))
    return replace(state, counts=counts)
