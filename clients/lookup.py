"""Search for items by id or title, with suggestions for near misses; pure functions."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from clients.errors import InvalidRequest
from distilrec.core.printable import printable
from distilrec.data.vocabulary import Vocabulary

_YEAR = re.compile(r"\s*\(\d{4}\)$")
_SHORTEST_PART = 3
"""Fewest letters that are looked for within titles."""
_SUGGESTIONS = 3
_LISTED = 10
# difflib takes 0.1 ms for a name, so it compares only this many of a large catalogue. rapidfuzz could compare all of them and save
# 20 lines, but it takes 12 MB in each application that installs the client, for one message of one command.
_CANDIDATES = 200


def resolve(texts: Iterable[str], vocabulary: Vocabulary) -> list[str]:
    """Return the item id that each text means.

    An id comes before a title, a whole title before one without its year, and this before a title that begins with the text or,
    last, has its words somewhere: "50", "Toy Story (1995)", "toy story" and "Star Wars" (for "Star Wars: Episode IV") are all
    understood.

    Args:
        texts: Ids or titles; case does not matter in titles.
        vocabulary: Vocabulary of the model.

    Raises:
        InvalidRequest: a text means no item, or several; the message lists all such texts, with what may have been meant.
    """
    item_ids, faults, titles = [], [], _Titles(vocabulary)
    for text in texts:
        if text in vocabulary:
            item_ids.append(text)
            continue
        meant = titles.meant(text)
        if len(meant) == 1:
            item_ids.append(meant[0])
        elif meant:
            faults.append(
                f"found {text!r}, which {len(meant)} items have in their title: {_listing(meant, vocabulary)}; expected an id"
            )
        else:
            near = titles.near(text)
            advice = f"; did you mean {_listing(near, vocabulary)}?" if near else ""
            faults.append(f"found {text!r}, expected the id or the title of an item that the model knows{advice}")
    if faults:
        raise InvalidRequest("\n".join(faults))
    return item_ids


class _Titles:
    """Item ids by title, with and without the year; built only when a text is not an id."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._whole: dict[str, list[str]] = {}
        self._short: dict[str, list[str]] = {}

    def meant(self, text: str) -> Sequence[str]:
        """Return the ids of items with this title; if there are none, with this title apart from the year, or with more words."""
        self._read()
        typed = _folded(text)
        return self._whole.get(typed) or self._short.get(typed) or self._longer(typed)

    def _longer(self, typed: str) -> Sequence[str]:
        """Return the ids of items whose title begins with these words; if there are none, of those that have them elsewhere."""
        if len(typed) < _SHORTEST_PART:
            return ()
        words = re.compile(rf"(?<!\w){re.escape(typed)}(?!\w)")
        found = [name for name in self._whole if typed in name and words.search(name)]
        begun = [name for name in found if words.match(name)]
        return [item_id for name in begun or found for item_id in self._whole[name]]

    def near(self, text: str) -> list[str]:
        """Return the ids of at most three items with a similar id or title."""
        self._read()
        typed = _folded(text)
        by_id = {_folded(item_id): [item_id] for item_id in self._vocabulary.item_ids}
        names = {**self._whole, **self._short, **by_id}
        close = difflib.get_close_matches(typed, _most_alike(typed, names), n=2 * _SUGGESTIONS)
        return list(dict.fromkeys(item_id for name in close for item_id in names[name]))[:_SUGGESTIONS]

    def _read(self) -> None:
        if self._whole:
            return
        for item_id, title in zip(self._vocabulary.item_ids, self._vocabulary.titles, strict=True):
            for names, name in zip((self._whole, self._short), _names(title), strict=True):
                if name:
                    names.setdefault(name, []).append(item_id)


def _most_alike(typed: str, names: Iterable[str]) -> list[str]:
    """Return the names that share most pairs of neighbouring bytes with the typed text, in proportion to their length."""
    listed = list(names)
    wanted = np.zeros(1 << 16, np.bool_)
    wanted[_pairs(typed)] = True
    lengths = np.array([len(name.encode(errors="replace")) + 1 for name in listed])
    shared = np.add.reduceat(wanted[_pairs("\n".join(listed) + "\n\n")], np.cumsum(lengths) - lengths, dtype=np.int64)
    best = np.argsort(-shared / (lengths + len(typed)), kind="stable")[:_CANDIDATES]
    return [listed[place] for place in best.tolist()]


def _pairs(text: str) -> NDArray[np.uint16]:
    """Return uint16 [bytes - 1]: each byte of the text with the next one, as one number."""
    found = np.frombuffer(text.encode(errors="replace"), np.uint8).astype(np.uint16)
    return np.bitwise_or(found[:-1] << 8, found[1:], dtype=np.uint16)


def _names(title: str) -> Iterator[str]:
    folded = _folded(title)
    yield folded
    yield _YEAR.sub("", folded)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _listing(item_ids: Sequence[str], vocabulary: Vocabulary) -> str:
    more = f" and {len(item_ids) - _LISTED} more" if len(item_ids) > _LISTED else ""
    return ", ".join(printable(f"{item_id} ({vocabulary.title(item_id)})") for item_id in item_ids[:_LISTED]) + more
