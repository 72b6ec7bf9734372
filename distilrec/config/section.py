"""Base class and number types of all sections of settings."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, lt=1)]

Positive = Annotated[int, Field(ge=1)]


def _not_dots(name: str) -> str:
    if not name.strip("."):
        raise ValueError("expected a name that is more than dots, because a folder gets this name")
    return name


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$"), AfterValidator(_not_dots)]
"""Name that can be part of a path and of a command line. It is never "." or "..", which are other folders than its own."""


class Section(BaseModel):
    """Base class of all sections. Sections are immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def declarations_of(section: Section) -> set[type]:
    """Classes of a section and of all sections in it: the kinds that its settings choose, whose code a stage depends on."""
    return {type(part) for part in _sections(section)}


def _sections(value: Any) -> Iterator[Section]:
    if isinstance(value, Section):
        yield value
        for name in type(value).model_fields:
            yield from _sections(getattr(value, name))
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _sections(part)
