"""Sections that are one of several kinds, each with fields of its own: an open, discriminated union."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from distilrec.config.section import Section
from distilrec.core.errors import ConfigError
from distilrec.core.registry import Registry

KIND_FAULTS = "kind_faults"
"""Type of a validation error that holds the errors of the kind's own section (``distilrec.config.faults``)."""


class KindSection(Section):
    """A section whose field ``kind`` chooses its other fields.

    The base of a union sets ``kinds``. Each subclass of that base declares a kind: its field ``kind`` has the name as its
    default, and its module lies in the package of the registry. Whatever validates the base gets the subclass. Fields that
    hold one need ``SerializeAsAny``, or pydantic writes the fields of the base alone.
    """

    kinds: ClassVar[Registry[type["KindSection"]]]
    default_kind: ClassVar[str | None] = None
    """The kind of a section that names none."""

    kind: str

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Declare the kind; the base of a union declares none."""
        if not cls._is_base():
            cls.kinds.declare(cls.model_fields["kind"].default, cls)

    @classmethod
    def _is_base(cls) -> bool:
        return "kinds" in cls.__dict__

    @model_validator(mode="wrap")
    @classmethod
    def _validate_as_its_kind(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not (cls._is_base() and isinstance(value, Mapping)):
            return handler(value)
        kind = value.get("kind", cls.default_kind)
        if not isinstance(kind, str):
            # A TypeError would leave pydantic as it is, without the place of the fault.
            raise ValueError(f"found no kind, expected one of {', '.join(cls.kinds)}")  # noqa: TRY004
        try:
            section = cls.kinds[kind]
        except ConfigError as error:
            raise ValueError(str(error)) from None
        try:
            return section.model_validate(value)  # type: ignore[return-value] # declared by a subclass of this base
        except ValidationError as error:
            # An error with a list of errors: pydantic has no other way to keep the places of the faults.
            faults = [cls._explained(kind, dict(fault)) for fault in error.errors()]
            raise PydanticCustomError(KIND_FAULTS, "faults in its section", {"faults": faults}) from None

    @classmethod
    def _explained(cls, kind: str, fault: dict[str, Any]) -> dict[str, Any]:
        """The fault; of a setting that only other kinds read, it says which do."""
        if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
            readers = [name for name, section in cls.kinds.items() if fault["loc"][0] in section.model_fields]
            if readers:
                fault |= {"type": "unread", "msg": f"is not read by kind {kind!r}, only by {', '.join(readers)}. Leave it out"}
        return fault
