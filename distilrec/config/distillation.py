"""Section ``student.distillation``: which losses a student learns by, and how much each counts."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from distilrec.config.kinds import KIND_FAULTS
from distilrec.config.section import Section
from distilrec.config.training import Ramp, Scheduled
from distilrec.core.errors import ConfigError
from distilrec.core.registry import Registry


class LossConfig(Section):
    """Settings of one loss. A loss is a subclass with a ``name``, in the module of ``distill.losses`` that implements it.

    In TOML a loss is a number or a ramp, its weight, or a table of the weight and the loss's own settings.
    """

    declared: ClassVar[Registry[type["LossConfig"]]] = Registry("loss", "distill.losses", "train")

    name: ClassVar[str]
    needs_user_vectors: ClassVar[bool] = False
    """Whether the loss reads the teacher's user vectors; not every teacher has them."""

    weight: Scheduled = 0.0
    """How much the loss counts: a number, or a ramp over the epochs."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Declare the loss; a class without a name only holds what several losses share."""
        if "name" in cls.__dict__:
            cls.declared.declare(cls.name, cls)

    @classmethod
    def is_on_by_default(cls) -> bool:
        """Whether the loss counts where settings do not name it."""
        return bool(cls.model_fields["weight"].default)

    @property
    def is_on(self) -> bool:
        """Whether the loss counts at any time."""
        return self.weight != 0


class DistillationConfig(Section):
    """How a student learns from soft targets and true items: each loss by its name, and what all of them share."""

    losses: dict[str, SerializeAsAny[LossConfig]] = Field(default_factory=dict)
    """By name. Those that are neither on by default nor changed are left out. In TOML they stand next to the settings below."""
    temperature: Annotated[float, Field(gt=0)] | Ramp = 1.0
    """T of the softened distributions; within ``targets.temperatures``."""
    confidence: bool = False
    """Adaptive: trust the teacher more where it ranks the true item high (cf. DLLM2Rec, Cui et al. 2024)."""

    @property
    def user_vector_losses(self) -> list[str]:
        """Names of the losses in use that read the teacher's user vectors."""
        return [name for name, loss in self.losses.items() if loss.needs_user_vectors and loss.is_on]

    @model_validator(mode="wrap")
    @classmethod
    def _gather_losses(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Validate each loss as it is declared; all faults are raised at once."""
        if not isinstance(value, Mapping):
            return handler(value)
        shared = {name: setting for name, setting in value.items() if name in ("temperature", "confidence")}
        given = {name: setting for name, setting in value.items() if name not in shared}
        losses: dict[str, LossConfig] = {}
        faults: list[Any] = []
        for name, setting in given.items():
            try:
                losses[name] = LossConfig.declared[name].model_validate(_table(setting))
            except ConfigError as error:
                faults.append({"type": "value_error", "loc": (name,), "msg": str(error), "input": setting})
            except ValidationError as error:
                faults += ({**fault, "loc": (name, *fault["loc"])} for fault in error.errors())
        try:
            section = handler(shared | {"losses": dict(_in_use(losses))})
        except ValidationError as error:
            faults = [*error.errors(), *faults]
        if faults:
            raise PydanticCustomError(KIND_FAULTS, "faults in its section", {"faults": faults})
        return section

    @model_serializer(mode="wrap")
    def _as_in_toml(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        losses = values.pop("losses")
        return {name: loss["weight"] if set(loss) == {"weight"} else loss for name, loss in losses.items()} | values


def _table(setting: Any) -> Any:
    """The settings of a loss as a table; a number and a ramp are its weight."""
    is_table = isinstance(setting, Mapping) and "start" not in setting and "end" not in setting
    return setting if is_table else {"weight": setting}


def _in_use(given: Mapping[str, LossConfig]) -> Iterator[tuple[str, LossConfig]]:
    """Losses that are on by default or not as declared, in the order in which they are summed.

    Losses on logits come before those on user vectors, and those that are on by default before the others.
    """
    declared = LossConfig.declared
    names = sorted(declared, key=lambda name: (declared[name].needs_user_vectors, not declared[name].is_on_by_default(), name))
    for name in names:
        loss = given.get(name, declared[name]())
        if loss.is_on_by_default() or loss != declared[name]():
            yield name, loss
