"""Groups of users that models are evaluated over separately, because an average can hide that a group loses."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distilrec.data.attributes import UNKNOWN, Attributes
from distilrec.data.dataset import Dataset, HeldOut, Split

HEAD_IS_ONE_IN = 5
"""One item in 5 is a head item (20 % of the catalogue), as in Abdollahpouri et al. 2019."""

MAX_VALUES = 8
"""Largest number of values of an attribute that are slices of their own, the most frequent ones. Numbers with more values are cut
into bands."""

BANDS = 4
"""Number of bands that numbers are cut into, each with about as many users."""

MIN_USERS = 20
"""Smallest number of users of a slice. Figures of smaller slices would be noise, and reveal single people."""

REST = "the rest"
"""Slice of the users with a rare value of an attribute."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Slice:
    """A group of held-out users."""

    name: str
    meaning: str
    """Explanation of the name; empty where the name is enough."""
    users: Mask
    """bool [U]."""


def user_slices(dataset: Dataset, users: HeldOut, split: Split, attributes: Attributes) -> list[Slice]:
    """All slices of held-out users with at least ``MIN_USERS`` users, except those that hold all users.

    Args:
        dataset: Sequences of all users.
        users: The held-out users, U of them.
        split: Split that they are held out for.
        attributes: Attributes of all users of the data set.
    """
    starts = dataset.validation_start if split == "validation" else dataset.test_start
    slices = truth_slices(users.truth, dataset.training_counts()) + history_slices(starts[users.users])
    for name, values in attributes.items():
        slices += attribute_slices(name, values, users.users)
    return [part for part in slices if part.users.sum() >= MIN_USERS and not part.users.all()]


def head_items(counts: NDArray[np.int64]) -> Mask:
    """Mask of the head items: the 20 % (rounded up) with the most training interactions, of tied ones those with lower indices.

    Args:
        counts: Training interactions of each item, int64 [N + 1].

    Returns:
        bool [N + 1], False for padding.
    """
    item_count = len(counts) - 1
    by_popularity = np.argsort(-counts[1:], kind="stable") + 1
    head = np.zeros(len(counts), np.bool_)
    head[by_popularity[: -(-item_count // HEAD_IS_ONE_IN)]] = True
    return head


def truth_slices(truth: NDArray[np.int32], counts: NDArray[np.int64]) -> list[Slice]:
    """Users by the popularity of their right answers.

    Args:
        truth: Right answers, padded with 0, int32 [U, T].
        counts: Training interactions of each item, int64 [N + 1].
    """
    in_head = (head_items(counts)[truth] & (truth != 0)).sum(axis=1)
    head = 2 * in_head >= (truth != 0).sum(axis=1)
    share = f"{100 // HEAD_IS_ONE_IN} % of the items with the most training interactions"
    return [
        Slice("head", f"at least half of the right answers are head items, the {share}", head),
        Slice("tail", "most of the right answers are other items", ~head),
    ]


def history_slices(lengths: NDArray[np.int64]) -> list[Slice]:
    """Users by the number of interactions before the cut, split at the median; ``lengths`` is int64 [U]."""
    median = float(np.median(lengths)) if len(lengths) else 0.0
    short = lengths <= median
    return [
        Slice("short history", f"at most {median:g} interactions before the cut, the median", short),
        Slice("long history", f"more than {median:g} interactions before the cut", ~short),
    ]


def attribute_slices(name: str, values: tuple[str, ...], users: NDArray[np.int64]) -> list[Slice]:
    """One slice for each value, or for each band of values where they are numbers.

    Args:
        name: Name of the attribute.
        values: Value of each user of the data set; frequent values and bands are determined over all of them.
        users: Indices of the held-out users, int64 [U].
    """
    labels = np.array(_bands(values) or _most_frequent(values))
    ordered = dict.fromkeys(sorted(set(labels), key=lambda label: (label in (REST, UNKNOWN), _number(label.split(" ")[0]), label)))
    meanings = {REST: f"users with a rarer {name}", UNKNOWN: f"users whose {name} is not known"}
    return [Slice(f"{name}: {label}", meanings.get(label, ""), labels[users] == label) for label in ordered]


def _most_frequent(values: tuple[str, ...]) -> list[str]:
    """Each value, or "the rest" for those beyond the ``MAX_VALUES`` most frequent."""
    found, counts = np.unique(values, return_counts=True)
    by_frequency = [str(value) for value in found[np.argsort(-counts, kind="stable")]]
    frequent = {*[value for value in by_frequency if value != UNKNOWN][:MAX_VALUES], UNKNOWN}
    return [value if value in frequent else REST for value in values]


def _bands(values: tuple[str, ...]) -> list[str] | None:
    """The band of each number ("25 to 31"), cut at quartiles; None where not all known values are numbers, or few differ."""
    known = [value for value in values if value != UNKNOWN]
    numbers = np.array([_number(value) for value in known])
    if len(set(known)) <= MAX_VALUES or not np.isfinite(numbers).all():
        return None
    edges = np.unique(np.quantile(numbers, np.arange(1, BANDS) / BANDS))
    places = np.searchsorted(edges, numbers)  # band b holds edge[b - 1] < number <= edge[b]
    names = {place: f"{numbers[places == place].min():g} to {numbers[places == place].max():g}" for place in np.unique(places)}
    banded = iter(places)
    return [UNKNOWN if value == UNKNOWN else names[next(banded)] for value in values]


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return math.inf
    return number if math.isfinite(number) else math.inf
