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

    The base of a union sets ``kinds``. Each subclass whose field ``kind`` has a default declares the kind of that name; its
    module lies in the package of the registry. A subclass without that default only holds what several kinds share.
    Validating the base gives the subclass. Fields that hold one need ``SerializeAsAny``, or pydantic writes the fields of
    the base alone.
    """

    kinds: ClassVar[Registry[type["KindSection"]]]
    default_kind: ClassVar[str | None] = None
    """The kind of a section that names none."""

    kind: str

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Declare the kind, where the class is one."""
        name = cls.model_fields["kind"].default
        if isinstance(name, str):
            cls.kinds.declare(name, cls)

    @classmethod
    def of_kind(cls, kind: str | None = None, **settings: Any) -> Self:
        """A section of this kind (None: the default kind) with these settings.

        Raises:
            ConfigError: There is no such kind.
        """
        section: type[Self] = cls.kinds[kind or cls.default_kind or ""]  # type: ignore[assignment] # declared by a subclass
        return section(**settings)

    def values_for(self, kind: str | None = None) -> dict[str, Any]:
        """Values of all settings that this kind reads, too (None: the section's own kind), to validate a changed section."""
        kind = kind or self.kind
        read = self.kinds[kind].model_fields
        return {name: value for name, value in self.model_dump().items() if name in read} | {"kind": kind}

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
            kinds = ", ".join(f'"{name}"' for name in cls.kinds)
            found = "no kind" if kind is None else f"kind = {kind!r}"
            # A TypeError would leave pydantic as it is, without the place of the fault.
            raise ValueError(f"found {found}, expected kind = one of {kinds}")  # noqa: TRY004
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
