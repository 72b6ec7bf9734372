"""The mapping between external item ids (strings) and item indices 1..N. The client uses it too, so it imports little."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from distilrec.core.errors import DataError
from distilrec.core.files import write_text
from distilrec.core.specs import PADDING

FILE_NAME = "vocabulary.json"


@dataclass(frozen=True)
class Vocabulary:
    """Item ids and titles; ``item_ids[i]`` has item index ``i + 1``, index 0 is padding."""

    item_ids: tuple[str, ...]
    titles: tuple[str, ...]
    retired: frozenset[str] = frozenset()
    """Ids of items that are never recommended any more. They keep their index, and may be in histories."""

    def __post_init__(self) -> None:
        if len(set(self.item_ids)) != len(self.item_ids):
            raise DataError("vocabulary: found an item id twice, expected unique ids")
        if len(self.titles) != len(self.item_ids):
            raise DataError(f"vocabulary: found {len(self.titles)} titles for {len(self.item_ids)} item ids")
        if unknown := self.retired.difference(self.item_ids):
            raise DataError(f"vocabulary: found {len(unknown)} retired item(s) that are no items of it, such as {min(unknown)!r}")

    def __len__(self) -> int:
        return len(self.item_ids)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._index_of

    @cached_property
    def sha256(self) -> str:
        """Digest of the ids in their order; titles may change without changing what an index means."""
        return hashlib.sha256(json.dumps(self.item_ids, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()

    @cached_property
    def _index_of(self) -> dict[str, int]:
        return {item_id: index for index, item_id in enumerate(self.item_ids, start=1)}

    def encode(self, item_ids: Iterable[str]) -> list[int]:
        """Item index of each id; ``PADDING`` for an unknown id."""
        return [self._index_of.get(item_id, PADDING) for item_id in item_ids]

    def decode(self, indices: Iterable[int]) -> list[str]:
        """Id of each item index 1..N."""
        return [self.item_ids[index - 1] for index in indices]

    def title(self, item_id: str) -> str:
        """Title of a known item id."""
        return self.titles[self._index_of[item_id] - 1]

    def retired_indices(self) -> list[int]:
        """Item indices of the retired items, ascending."""
        return sorted(self.encode(self.retired))

    def save(self, path: Path) -> None:
        """Write as JSON."""
        content: dict[str, object] = {"sha256": self.sha256, "item_ids": self.item_ids, "titles": self.titles}
        if self.retired:
            content["retired"] = sorted(self.retired)
        write_text(path, json.dumps(content, ensure_ascii=False) + "\n")


def load_vocabulary(path: Path) -> Vocabulary:
    """Read what ``Vocabulary.save`` wrote.

    Raises:
        DataError: The file does not exist, is no vocabulary, or its ids do not have the sha256 that it states.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected a served model's vocabulary. Make it with: distilrec export") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}), expected a served model's vocabulary") from error
    return parse_vocabulary(content, str(path))


def parse_vocabulary(content: bytes, where: str) -> Vocabulary:
    """Parse the content of a vocabulary file.

    Args:
        content: Bytes of the file.
        where: Name of the source in error messages.

    Raises:
        DataError: The content is no vocabulary, or its ids do not have the sha256 that it states.
    """
    try:
        found = json.loads(content)
        retired = frozenset(_strings(found.get("retired", ())))
        vocabulary = Vocabulary(_strings(found["item_ids"]), _strings(found["titles"]), retired)
        stated = found["sha256"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: not a vocabulary: {error!r}") from error
    if vocabulary.sha256 != stated:
        raise DataError(f"{where}: found item ids with sha256 {vocabulary.sha256}, but it states {stated}; the file was changed")
    return vocabulary


def _strings(values: Sequence[object]) -> tuple[str, ...]:
    if not all(isinstance(value, str) for value in values):
        raise TypeError("expected strings")
    return tuple(str(value) for value in values)
