"""Base class and number types of all sections of settings."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, lt=1)]

Positive = Annotated[int, Field(ge=1)]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
"""Name that can be part of a path and of a command line."""


class Section(BaseModel):
    """Base class of all sections. Sections are immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
