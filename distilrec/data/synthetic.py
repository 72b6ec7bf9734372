"""Interactions of an invented shop of any size, for benchmarks and trials where no real log is large enough.

The data is synthetic. It has what matters for the cost and the working of recommenders: categories of skewed popularity, users with
a few lasting tastes, sessions in one category, items that are bought one after another, and popularity that moves to other items in
the course of time. It says nothing about the quality that a model reaches on real users.
"""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from distilrec.core.errors import DataError
from distilrec.core.files import replace_folder

INTERACTIONS = "interactions"
"""Folder of Parquet parts with columns user_id, item_id (int64), timestamp (int64, seconds since 1970) and session_id (int64)."""

ITEMS = "items.parquet"
"""Columns item_id (int64), title, category (text) and price (float64)."""

FACTS = "facts.json"
"""The settings that made the shop, and the number of rows."""

_FEWEST_ITEMS = 100
_EVENTS_IN_PART = 2_000_000
_FIRST_SECOND = 1_735_689_600  # 2025-01-01
_SECONDS_A_DAY = 86_400
_TASTES = np.array([0.6, 0.3, 0.1])
"""Shares of a user's tastes in the user's sessions."""
_ANY_CATEGORY = 0.1
"""Share of sessions outside the user's tastes."""
_NEW_SESSION = 0.2
"""Probability that an event begins a session."""
_FOLLOWS = 0.4
"""Probability that an event in a session is of the item that follows the one before."""
_BUNDLE = 4
"""Items that follow each other, in a ring."""
_SKEW = 1.05
"""Exponent of Zipf's law, of categories and of the items of a category."""
_SECONDS_BETWEEN_EVENTS = 40


@dataclass(frozen=True)
class Shop:
    """An invented shop.

    Args:
        users: Number of users.
        items: Number of items, at least 100.
        events: About how many events; each user has at least two.
        days: Length of the log.
        drift: Share of each category's items over which its popularity moves within these days; 0 keeps it as it is.
        seed: Random seed; the same settings give the same rows on every machine.

    Raises:
        DataError: A number is out of range.
    """

    users: int
    items: int
    events: int
    days: int = 90
    drift: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        enough = self.users >= 1 and self.items >= _FEWEST_ITEMS and self.days >= 1 and self.events >= 2 * self.users
        if not (enough and 0 <= self.drift <= 1):
            raise DataError(
                f"found {self.users:,} users, {self.items:,} items, {self.events:,} events, {self.days} days and a drift of"
                f" {self.drift}, expected at least 1 user, {_FEWEST_ITEMS} items, two events a user, 1 day and a drift of 0 to 1"
            )

    @property
    def categories(self) -> int:
        """Number of categories: it grows with the square root of the number of items."""
        return min(max(round(math.sqrt(self.items) / 2), 8), 2000)


def write_shop(shop: Shop, folder: Path) -> int:
    """Write interactions, items and facts below ``folder``, which is replaced as a whole; returns the number of events.

    Memory does not grow with the number of events: parts of about two million are written one after another.

    Raises:
        DataError: The folder holds something else.
        OSError: The disk is full.
    """
    if folder.exists() and not (folder / FACTS).is_file():
        raise DataError(f"{folder}: found a folder that `generate` has not written, expected a new one or one of its own")
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)  # of a start that was interrupted
    (new / INTERACTIONS).mkdir(parents=True)
    ids = _item_ids(shop)
    rows = 0
    for number, part in enumerate(_parts(shop, ids)):
        part.write_parquet(new / INTERACTIONS / f"part-{number:05}.parquet")
        rows += len(part)
    _items(shop, ids).write_parquet(new / ITEMS)
    facts = {"synthetic": True, **asdict(shop), "categories": shop.categories, "rows": rows}
    (new / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    replace_folder(new, folder)
    return rows


def _parts(shop: Shop, ids: NDArray[np.int64]) -> Iterator[pl.DataFrame]:
    users_in_part = max(1, round(_EVENTS_IN_PART * shop.users / shop.events))
    for first in range(0, shop.users, users_in_part):
        users = np.arange(first, min(first + users_in_part, shop.users))
        yield _interactions(shop, users, ids, np.random.default_rng([shop.seed, 1, first]))


def _interactions(shop: Shop, users: NDArray[np.int64], ids: NDArray[np.int64], rng: np.random.Generator) -> pl.DataFrame:
    """Events of these users, in order of user and time."""
    per_user = 1 + rng.geometric(1 / max(shop.events / shop.users - 1, 1), len(users))
    user = np.repeat(np.arange(len(users)), per_user)  # (E,), as all below
    starts = rng.random(len(user)) < _NEW_SESSION
    starts[np.cumsum(per_user) - per_user] = True
    session = np.cumsum(starts) - 1
    session_user = user[starts]  # (S,)
    begins = _session_times(shop, session_user, rng)
    category = _session_categories(shop, len(users), session_user, rng)[session]
    first = np.flatnonzero(starts)[session]
    timestamp = begins[session] + _SECONDS_BETWEEN_EVENTS * (np.arange(len(user)) - first)
    place = _places(shop, starts, timestamp, rng)
    size = _items_in(shop, category)
    items = category + shop.categories * (place % size)
    columns = {"user_id": users[user] + 1, "item_id": ids[items], "timestamp": timestamp, "session_id": first + (users[0] << 32)}
    return pl.DataFrame(columns)


def _session_times(shop: Shop, session_user: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """First second of each session, rising for each user. int64 [S]."""
    moments = rng.random(len(session_user)) * shop.days * _SECONDS_A_DAY
    seconds: NDArray[np.int64] = moments[np.lexsort((moments, session_user))].astype(np.int64)
    return _FIRST_SECOND + seconds


def _session_categories(
    shop: Shop, user_count: int, session_user: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Category of each session: mostly one of the user's tastes. int64 [S]."""
    tastes = _zipf(np.full((user_count, len(_TASTES)), shop.categories), rng)
    chosen = tastes[session_user, rng.choice(len(_TASTES), len(session_user), p=_TASTES)]
    anything = _zipf(np.full(len(session_user), shop.categories), rng)
    return np.where(rng.random(len(session_user)) < _ANY_CATEGORY, anything, chosen)


def _places(shop: Shop, starts: NDArray[np.bool_], timestamp: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Place of each event's item in its category; places beyond its end begin again at the front. int64 [E]."""
    count = len(starts)
    drawn = np.flatnonzero(starts | (rng.random(count) >= _FOLLOWS))
    at = np.zeros(count, np.int64)
    at[drawn] = drawn
    np.maximum.accumulate(at, out=at)  # the event whose item was drawn, which this event's item follows
    largest = np.full(count, -(-shop.items // shop.categories))
    share = shop.drift * (timestamp - _FIRST_SECOND) / (shop.days * _SECONDS_A_DAY)
    place = (_zipf(largest, rng) + (share * largest).astype(np.int64))[at]
    steps = np.arange(count) - at
    bundle: NDArray[np.int64] = place - place % _BUNDLE
    within: NDArray[np.int64] = (place + steps) % _BUNDLE
    return bundle + within


def _zipf(sizes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Ranks from 0 to size - 1, by Zipf's law in its continuous form. int64, as ``sizes``."""
    power = 1 - _SKEW
    highest = (sizes + 1.0) ** power
    ranks = (1 + rng.random(sizes.shape) * (highest - 1)) ** (1 / power)
    return np.minimum(ranks.astype(np.int64) - 1, sizes - 1)


def _items_in(shop: Shop, category: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of items of categories: item i is at place i // C of category i % C. int64, same shape."""
    return (shop.items - 1 - category) // shop.categories + 1


def _item_ids(shop: Shop) -> NDArray[np.int64]:
    """An id for each item that does not tell how popular it is, 1..N in any order. int64 [N]."""
    return np.random.default_rng([shop.seed, 0]).permutation(shop.items) + 1


def _items(shop: Shop, ids: NDArray[np.int64]) -> pl.DataFrame:
    index = np.arange(shop.items)
    category = index % shop.categories
    price = np.round(np.exp(np.random.default_rng([shop.seed, 2]).normal(3 + category % 7 / 4, 0.5)), 2)
    frame = pl.DataFrame({"item_id": ids, "category": category, "set": index // shop.categories // _BUNDLE, "price": price})
    name = pl.format("category {}", "category")
    title = pl.format("{}, set {}", name, "set")
    return frame.select("item_id", title.alias("title"), name.alias("category"), "price").sort("item_id")
