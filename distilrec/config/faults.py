"""Faults of settings in one line each: place, what was expected, what was found."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from distilrec.config.kinds import KIND_FAULTS


def describe_faults(error: ValidationError) -> list[str]:
    """One line for each fault, as "student.dropout: Input should be less than 1 (found 2)"."""
    return [_describe(fault) for fault in _flat(error.errors(), ())]


def _flat(faults: Any, place: tuple[int | str, ...]) -> Iterator[Mapping[str, Any]]:
    """All faults with their whole places; one fault holds all those within a section of a kind."""
    for fault in faults:
        where = (*place, *fault["loc"])
        if fault["type"] == KIND_FAULTS:
            yield from _flat(fault["ctx"]["faults"], where)
        else:
            yield {**fault, "loc": where}


def _describe(fault: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in fault["loc"]) or "settings"
    hidden = fault["type"] in ("missing", "extra_forbidden") or isinstance(fault["input"], dict)
    found = "" if hidden else f" (found {fault['input']!r})"
    message = "no such setting" if fault["type"] == "extra_forbidden" else fault["msg"].removeprefix("Value error, ")
    return f"{place}: {message}{found}"
