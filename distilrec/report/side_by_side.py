"""What a few held-out users are shown by the teacher, by the student and by its INT8 form, by title."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distilrec.config import Config, spec_of_run
from distilrec.core.specs import PADDING
from distilrec.data.dataset import HeldOut, held_out
from distilrec.data.stage import load
from distilrec.data.vocabulary import Vocabulary
from distilrec.pipeline.models import load_models
from distilrec.pipeline.stages import run_dir

_SHOWN_HISTORY = 5
_SHOWN_ITEMS = 10
_SEED = 0


@dataclass(frozen=True)
class Shown:
    """A recommended item."""

    title: str
    right: bool
    """The user went on to it."""
    of_teacher: bool
    """The teacher shows it, too."""


@dataclass(frozen=True)
class Example:
    """A held-out user."""

    newest: tuple[str, ...]
    """Titles of the newest items of the history, oldest first."""
    history_items: int
    """Length of the history the models read."""
    truth: tuple[str, ...]
    """Titles of what the user went on to."""
    lists: dict[str, tuple[Shown, ...]]
    """Best items first, by model."""


def examples(config: Config, hops: Sequence[str], count: int = 3) -> tuple[Example, ...]:
    """Ask models about held-out users, drawn with a fixed seed and not by how they turn out.

    Args:
        config: of the run.
        hops: names of the models, the teacher first.
        count: of users.

    Raises:
        DistilRecError: a model cannot be loaded.
    """
    dataset, vocabulary = load(run_dir(config) / "data")
    spec = spec_of_run(config, len(vocabulary))
    users = held_out(dataset, "test", spec)
    rows = np.random.default_rng(_SEED).choice(len(users.users), min(count, len(users.users)), replace=False)
    answers = {
        hop.name: hop.runner.recommend(users.history[rows], users.exclude[rows])[0]
        for hop in load_models(config, spec)
        if hop.name in hops
    }
    return describe(users, rows, answers, vocabulary)


def describe(
    users: HeldOut, rows: NDArray[np.int64], answers: Mapping[str, NDArray[np.int32]], vocabulary: Vocabulary
) -> tuple[Example, ...]:
    """The answers by title.

    Args:
        users: who was asked about.
        rows: int64 [R], which of them.
        answers: int32 [R, K] by model, the teacher's first.
        vocabulary: titles.
    """
    teacher = next(iter(answers.values()))

    def titles(indices: NDArray[np.int32]) -> tuple[str, ...]:
        return tuple(vocabulary.titles[index - 1] for index in indices if index != PADDING)

    def shown(place: int, items: NDArray[np.int32]) -> tuple[Shown, ...]:
        right, known = set(users.truth[rows[place]].tolist()), set(teacher[place, :_SHOWN_ITEMS].tolist())
        best = [index for index in items[:_SHOWN_ITEMS].tolist() if index != PADDING]
        return tuple(Shown(vocabulary.titles[index - 1], index in right, index in known) for index in best)

    return tuple(
        Example(
            titles(users.history[row])[-_SHOWN_HISTORY:],
            int((users.history[row] != PADDING).sum()),
            titles(users.truth[row]),
            {name: shown(place, items[place]) for name, items in answers.items()},
        )
        for place, row in enumerate(rows)
    )
