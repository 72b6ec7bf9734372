"""Recommendations for a few held-out users by the teacher, the student and the student in INT8, by title."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distilrec.config import Config, spec_of_run
from distilrec.core.printable import printable
from distilrec.core.runner import chosen_rows
from distilrec.core.specs import PADDING
from distilrec.data.dataset import HeldOut, held_out
from distilrec.data.stage import load
from distilrec.data.vocabulary import Vocabulary
from distilrec.pipeline.folders import run_dir
from distilrec.pipeline.models import load_models
from distilrec.pipeline.stages import with_sizes_of_data

_SHOWN_HISTORY = 5
"""Titles of a history that fit on one or two lines."""
_SHOWN_ITEMS = 10
"""Recommendations shown by model: those that the primary metric, NDCG@10, counts."""
_SEED = 0


@dataclass(frozen=True)
class ShownItem:
    """A recommended item."""

    title: str
    right: bool
    """Whether it is among the user's held-out items."""
    of_teacher: bool
    """Whether the teacher recommends it too."""


@dataclass(frozen=True)
class ExampleUser:
    """A held-out user with the recommendations of several models."""

    newest: tuple[str, ...]
    """Titles of the newest items of the history, oldest first."""
    history_items: int
    """Number of items in the history that the models read."""
    truth: tuple[str, ...]
    """Titles of the user's held-out items."""
    lists: dict[str, tuple[ShownItem, ...]]
    """Recommended items by model, best first."""


def example_users(config: Config, models: Sequence[str], count: int = 3) -> tuple[ExampleUser, ...]:
    """Get recommendations for held-out users, who are drawn with a fixed seed and not selected by the result.

    Args:
        config: Settings of the run.
        models: Names of the evaluated models, the teacher first.
        count: Number of users.

    Raises:
        DistilRecError: A model cannot be loaded.
    """
    config = with_sizes_of_data(config)
    dataset, vocabulary = load(run_dir(config) / "data")
    spec = spec_of_run(config, len(vocabulary))
    users = held_out(dataset, "test", spec)
    rows = np.random.default_rng(_SEED).choice(len(users.users), min(count, len(users.users)), replace=False)
    answers = {
        model.name: model.runner.recommend(users.history[rows], users.exclude[rows], chosen_rows(users.choices, rows))[0]
        for model in load_models(config, spec, users)
        if model.name in models
    }
    return with_titles(users, rows, answers, vocabulary)


def with_titles(
    users: HeldOut, rows: NDArray[np.int64], answers: Mapping[str, NDArray[np.int32]], vocabulary: Vocabulary
) -> tuple[ExampleUser, ...]:
    """Replace item indices by printable titles, and mark the right items and the teacher's.

    Args:
        users: Held-out users.
        rows: Rows of ``users`` to show, int64 [R].
        answers: Recommended item indices by model, int32 [R, K], the teacher's first.
        vocabulary: Titles of the items.
    """
    teacher = next(iter(answers.values()))

    def titles(indices: NDArray[np.int32]) -> tuple[str, ...]:
        return tuple(printable(vocabulary.titles[index - 1]) for index in indices if index != PADDING)

    def shown(place: int, items: NDArray[np.int32]) -> tuple[ShownItem, ...]:
        truth, of_teacher = set(users.truth[rows[place]].tolist()), set(teacher[place, :_SHOWN_ITEMS].tolist())
        best = [index for index in items[:_SHOWN_ITEMS].tolist() if index != PADDING]
        return tuple(ShownItem(printable(vocabulary.titles[index - 1]), index in truth, index in of_teacher) for index in best)

    return tuple(
        ExampleUser(
            titles(users.history[row])[-_SHOWN_HISTORY:],
            int((users.history[row] != PADDING).sum()),
            titles(users.truth[row]),
            {name: shown(place, items[place]) for name, items in answers.items()},
        )
        for place, row in enumerate(rows)
    )
