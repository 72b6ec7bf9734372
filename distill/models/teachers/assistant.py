"""Teacher kind ``assistant``: a larger student that teaches the smaller one."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, model_validator

from distill.models.catalogue import Catalogue
from distill.models.encoders import Encoder
from distill.models.students.build import describe_student
from distill.models.teachers._base import FittedTeacherConfig
from distilrec.config import DistillationConfig, ItemVectorConfig, StudentConfig, TextConfig, TrainingConfig

_ALONE: dict[str, Any] = {"epochs": 40, "patience": 3, "schedule": "constant", "dropout": 0.5}
"""How a student is trained that learns from true items alone, where its section does not say it."""


def _larger_student() -> StudentConfig:
    return StudentConfig.of_kind(embedding_size=128, hidden_size=512, **_ALONE)


class AssistantTeacherConfig(FittedTeacherConfig):
    """A larger student that teaches the smaller one (teacher assistant, Mirzadeh et al. 2019, arXiv:1902.03393)."""

    kind: Literal["assistant"] = "assistant"
    student: SerializeAsAny[StudentConfig] = Field(default_factory=_larger_student)
    taught_by: tuple[str, ...] = ()
    """Names of the teachers it learns from; none for a large model that is trained alone."""

    @model_validator(mode="before")
    @classmethod
    def _train_alone(cls, values: Any) -> Any:
        """Complete the section of a student that nobody teaches."""
        match values:
            case {"student": Mapping() as student} if not values.get("taught_by"):
                return {**values, "student": {**_ALONE, **student}}
        return values

    @property
    def learns_from(self) -> tuple[str, ...]:
        """See ``TeacherConfig``."""
        return self.taught_by

    @property
    def learner(self) -> StudentConfig:
        """See ``TeacherConfig``."""
        return self.student

    @property
    def training(self) -> TrainingConfig:
        """See ``FittedTeacherConfig``."""
        return self.student

    @property
    def item_vectors(self) -> ItemVectorConfig:
        """See ``FittedTeacherConfig``."""
        return self.student

    @property
    def distillation(self) -> DistillationConfig:
        """See ``FittedTeacherConfig``."""
        return self.student.distillation

    def describe(self, *, distilled: bool) -> str:
        """See ``FittedTeacherConfig``."""
        return describe_student(self.student, distilled=distilled)

    def recorded(self, text: TextConfig) -> dict[str, Any]:  # noqa: ARG002 - title embeddings are an input of the stage
        """See ``TeacherConfig``; the teachers it learns from are inputs of the stage."""
        return self.student.recorded(distilled=bool(self.taught_by))

    def build(self, catalogue: Catalogue, history_length: int) -> Encoder:
        """See ``FittedTeacherConfig``."""
        student: Encoder = self.student.build(catalogue.item_table(self.student.embedding_size, self.student.rank), history_length)
        return student
