"""What all sections of settings share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, lt=1)]


Positive = Annotated[int, Field(ge=1)]


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]


class Section(BaseModel):
    """Base of all sections: immutable, and a key it does not know is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")
