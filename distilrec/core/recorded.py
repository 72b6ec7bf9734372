"""Recorded live requests: a line of JSON each, without anything that names a user or the minute."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distilrec.core.errors import DataError

SUFFIX = ".jsonl"
_OPTIONS = ("filter", "allow", "repeats")


@dataclass(frozen=True)
class RecordedRequest:
    """One live request, and what was shown."""

    history: tuple[str, ...]
    """Item ids, oldest first."""
    shown: tuple[str, ...] = ()
    """Item ids that were answered, best first."""
    exclude: tuple[str, ...] = ()
    hour: str = ""
    """Hour of the request, UTC, as 2026-05-01T13."""
    version: str = ""
    """Version that answered."""
    variant: str = "served"
    """``served`` or ``candidate``."""
    propensities: tuple[float, ...] = ()
    """For each shown item the probability with which it was shown, where the application knows it."""
    rewards: tuple[float, ...] = ()
    """For each shown item what it brought, such as 1 for a click; empty where nobody has added it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """``filter``, ``allow`` and ``repeats`` of the request, where it had any."""

    def to_line(self) -> str:
        """A line of JSON without its end; empty fields are left out."""
        values = {name: value for name, value in asdict(self).items() if value}
        return json.dumps(values | {"history": self.history}, ensure_ascii=False, separators=(",", ":"))


def parse_line(line: str) -> RecordedRequest:
    """Read what ``to_line`` wrote.

    Raises:
        ValueError: the line is no recorded request.
    """
    values = json.loads(line)
    if not isinstance(values, dict) or not isinstance(values.get("options", {}), dict):
        raise ValueError(f"found {line[:80]!r}, expected an object of JSON")  # noqa: TRY004 - as of other broken lines
    request = RecordedRequest(
        history=_texts(values, "history"),
        shown=_texts(values, "shown"),
        exclude=_texts(values, "exclude"),
        hour=str(values.get("hour", "")),
        version=str(values.get("version", "")),
        variant=str(values.get("variant", "served")),
        propensities=_numbers(values, "propensities"),
        rewards=_numbers(values, "rewards"),
        options={name: value for name, value in values.get("options", {}).items() if name in _OPTIONS},
    )
    for name, found in (("propensities", request.propensities), ("rewards", request.rewards)):
        if found and len(found) != len(request.shown):
            raise ValueError(f"found {len(found)} {name} for {len(request.shown)} shown items")
    if any(not 0 < value <= 1 for value in request.propensities):
        raise ValueError("found a propensity outside of (0, 1]")
    return request


def read_requests(place: Path) -> tuple[list[RecordedRequest], int]:
    """Read all recorded requests of a file, or of the files of a folder.

    Returns:
        The requests, oldest file first, and the number of lines that could not be read, such as the last one of a killed process.

    Raises:
        DataError: there is no request.
    """
    requests, broken = [], 0
    for line in _lines(place):
        try:
            requests.append(parse_line(line))
        except ValueError:
            broken += 1
    if not requests:
        raise DataError(
            f"{place}: found no recorded request ({broken} broken lines), expected files *{SUFFIX} of a client with"
            " record=Recorder(...)"
        )
    return requests, broken


def _texts(values: dict[str, Any], name: str) -> tuple[str, ...]:
    found = values.get(name, [])
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ValueError(f"{name}: found {found!r:.80}, expected a list of item ids")
    return tuple(found)


def _numbers(values: dict[str, Any], name: str) -> tuple[float, ...]:
    found = values.get(name, [])
    if not isinstance(found, list) or not all(isinstance(item, int | float) for item in found):
        raise ValueError(f"{name}: found {found!r:.80}, expected a list of numbers")
    return tuple(map(float, found))


def _lines(place: Path) -> Iterator[str]:
    try:
        files = sorted(place.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime) if place.is_dir() else [place]
        for path in files:
            with path.open(encoding="utf-8", errors="replace") as file:
                yield from (line for line in file if line.strip())
    except OSError as error:
        raise DataError(f"{place}: cannot be read ({error.strerror}), expected recorded requests") from error
