"""Faults of settings in one line each, in the words of the settings: place, what was expected, what was found."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from distilrec.config.kinds import KIND_FAULTS

_EXAMPLES = {"name": ', as name = "shop"', "data": ', as [data] with interactions = "events.csv"'}
_PLAIN = {
    "path_type": "expected the path of a file, as text",
    "string_pattern_mismatch": "expected letters, digits, '.', '_' and '-' alone",
}
"""Messages by the type of pydantic's error."""


def describe_faults(error: ValidationError, settings: type[BaseModel] | None = None) -> list[str]:
    """One line for each fault, as "student.dropout: Input should be less than 1 (found 2)".

    Args:
        error: Faults that pydantic found.
        settings: Class that was validated; its names are suggested for unknown ones.
    """
    return [_describe(fault, settings) for fault in _flat(error.errors(), ())]


def _flat(faults: Any, place: tuple[int | str, ...]) -> Iterator[Mapping[str, Any]]:
    """All faults with their whole places; one fault holds all those within a section of a kind."""
    for fault in faults:
        where = (*place, *fault["loc"])
        if fault["type"] == KIND_FAULTS:
            yield from _flat(fault["ctx"]["faults"], where)
        else:
            yield {**fault, "loc": where}


def _describe(fault: Mapping[str, Any], settings: type[BaseModel] | None) -> str:
    place = ".".join(str(part) for part in fault["loc"]) or "settings"
    hidden = fault["type"] in ("missing", "extra_forbidden") or isinstance(fault["input"], dict)
    found = "" if hidden else f" (found {fault['input']!r})"
    return f"{place}: {_message(fault, settings)}{found}"


def _message(fault: Mapping[str, Any], settings: type[BaseModel] | None) -> str:
    kind, loc = fault["type"], fault["loc"]
    place = ".".join(map(str, loc))
    if kind == "missing":
        return f"is missing, and it has no default; expected it{_EXAMPLES.get(place, '')}"
    if kind == "extra_forbidden":
        return f"no such setting{_suggestion(loc, settings)}"
    if kind in ("tuple_type", "list_type") and isinstance(fault["input"], str):
        return f'expected a list, as {loc[-1]} = ["{fault["input"]}"]'
    if kind in ("model_type", "dict_type"):
        named = len(loc) == 2 and loc[0] == "teachers"
        return f"expected a section{', under a name of yours, as [teachers.mine]' if named else f', as [{place}]'}"
    return _PLAIN.get(kind) or str(fault["msg"]).removeprefix("Value error, ")


def _suggestion(loc: tuple[int | str, ...], settings: type[BaseModel] | None) -> str:
    """What an unknown name may have meant: a similar name in its section, or the section where the name belongs."""
    section = settings
    for part in loc[:-1]:
        section = None if section is None else _section(section, str(part))
    if settings is None or section is None:
        return ""
    name = str(loc[-1])
    elsewhere = [part for part in settings.model_fields if (of := _section(settings, part)) and name in of.model_fields]
    if elsewhere:
        return f"; expected it in section [{elsewhere[0]}]"
    near = difflib.get_close_matches(name, section.model_fields, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _section(settings: type[BaseModel], name: str) -> type[BaseModel] | None:
    """Class of a section of the settings; None where that is not one class."""
    field = settings.model_fields.get(name)
    annotation = None if field is None else field.annotation
    classes = [part for part in (annotation, *get_args(annotation)) if isinstance(part, type) and issubclass(part, BaseModel)]
    return classes[0] if len(classes) == 1 else None
