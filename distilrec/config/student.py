"""Sections ``student``, ``undistilled`` and ``qad``."""

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from distilrec.config.distillation import DistillationConfig
from distilrec.config.domain import DomainConfig
from distilrec.config.item_vectors import ItemVectorConfig
from distilrec.config.kinds import KindSection
from distilrec.config.section import Fraction, Positive
from distilrec.config.training import TrainingConfig
from distilrec.core.registry import Registry

StudentName = Literal["distilled", "undistilled"]
"""The two students of a run: one that learns from the teachers' soft targets, and the same model trained without a teacher."""


class StudentConfig(KindSection, TrainingConfig, ItemVectorConfig):
    """The small model that is exported. A kind is a subclass in a module of ``distill.models.students``."""

    kinds: ClassVar[Registry[type[KindSection]]] = Registry("student kind", "distill.models.students", "train")
    default_kind = "mlp"

    epochs: Positive = 24
    patience: Positive = 24
    """The last epochs, at small rates, count (Beyer et al. 2022): the training does not stop early."""
    schedule: Literal["constant", "cosine"] = "cosine"
    embedding_size: Annotated[int, Field(ge=2)] = 64
    dropout: Fraction = 0.1
    """Little: a teacher's soft targets regularise enough."""
    table: Literal["full", "low_rank"] = "full"
    """``low_rank``: item vectors share their parameters; each is ``rank`` numbers times one basis for all items."""
    rank: Annotated[int, Field(ge=2)] | None = None
    """``low_rank``: numbers kept for each item, below ``embedding_size``."""
    distillation: DistillationConfig = Field(default_factory=DistillationConfig)
    """Not used by a student that is trained without a teacher."""
    domain: DomainConfig | None = None
    """Weights of training examples by where their users come from; None weighs all alike, and is left out of what is recorded."""

    @model_serializer(mode="wrap")
    def _without_unset_domain(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if name != "domain" or value is not None}

    @abstractmethod
    def build(self, items: Any, history_length: int) -> Any:
        """An untrained student of this kind.

        Args:
            items: ``distill.models.item_table.ItemTable`` of ``embedding_size``.
            history_length: L, the newest items of a history that the student reads.

        Returns:
            A ``distill.models.encoders.Encoder``. Settings do not depend on PyTorch, therefore the types are ``Any`` here.
        """

    def recorded(self, *, distilled: bool) -> dict[str, Any]:
        """Settings that the trained student depends on, JSON-ready, for its manifest.

        Args:
            distilled: Whether it learns from soft targets.
        """
        return self.model_dump(mode="json", exclude=self.unset() | (set() if distilled else {"distillation"}))

    @model_validator(mode="after")
    def _check_table(self) -> Self:
        if self.table == "full" and self.rank is not None:
            raise ValueError(f'rank ({self.rank}) is not read by a full table; leave it out, or set table = "low_rank"')
        if self.table == "low_rank" and (self.rank is None or self.rank >= self.embedding_size):
            raise ValueError(f'table = "low_rank" needs a rank below embedding_size ({self.embedding_size}), found {self.rank}')
        return self


class UndistilledConfig(TrainingConfig):
    """What may differ for a student without a teacher: how it is trained, not what it is.

    What section ``student`` sets and this one does not is as there; what neither sets is what suits a training by true items alone:
    more dropout, and as many epochs as help.
    """

    epochs: Positive = 40
    patience: Positive = 4
    dropout: Fraction = 0.4


class QadConfig(TrainingConfig):
    """Quantisation-aware distillation: some more epochs of the student as INT8 will round it."""

    use: Literal["auto", "on", "off"] = "auto"
    """``auto``: when INT8 after training misses the ranking budget."""
    epochs: Positive = 5
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
