"""All settings of a run."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from distilrec.config.data import DataConfig, ImageConfig, TextConfig
from distilrec.config.export import ExportConfig
from distilrec.config.rollout import RolloutConfig
from distilrec.config.section import Name, Positive, Section
from distilrec.config.student import QadConfig, StudentConfig, UndistilledConfig
from distilrec.config.teachers import TargetsConfig, TeacherConfig
from distilrec.config.training import Ramp
from distilrec.config.tune import TuneConfig
from distilrec.config.update import UpdateConfig

_COPIES = 2
"""Perturbed copies that "auto" stands for."""


class Config(Section):
    """All settings of a run."""

    name: Name
    """Name of the run's folder below ``runs/``."""
    seed: int = 0
    history_length: Positive = 50
    """L: number of newest items of a history that teacher and student read."""
    processes: Positive = 1
    """Number of processes that share a training (PyTorch's DDP), each on a GPU of its own; without GPUs they run on the CPU. For
    several machines: ``torchrun -m distilrec run``."""
    logger: Literal["csv", "tensorboard", "wandb"] = "csv"
    """Where losses and validation metrics of trainings are recorded, besides the progress bar."""
    data: DataConfig
    text: TextConfig = TextConfig()
    image: ImageConfig = ImageConfig()
    teachers: dict[Name, SerializeAsAny[TeacherConfig]] = Field(
        default_factory=lambda: {"sequence": TeacherConfig.of_kind("sequence"), "averages": TeacherConfig.of_kind("assistant")},
        min_length=1,
    )
    """Teachers by name; several are mixed with weights that are found on validation users, or with those in ``targets.weights``."""
    targets: TargetsConfig = TargetsConfig()
    student: SerializeAsAny[StudentConfig] = Field(default_factory=StudentConfig.of_kind)
    undistilled: UndistilledConfig = UndistilledConfig()
    """Training of the same student without a teacher; what it leaves out is as section ``student`` sets it, if it does."""
    qad: QadConfig = QadConfig()
    update: UpdateConfig = UpdateConfig()
    export: ExportConfig = ExportConfig()
    rollout: RolloutConfig = RolloutConfig()
    tune: TuneConfig = Field(default_factory=TuneConfig)

    @property
    def student_teachers(self) -> dict[str, float]:
        """Names and weights of the teachers that the student learns from."""
        if self.targets.weights is not None:
            return self.targets.weights
        used = {name for teacher in self.teachers.values() for name in teacher.learns_from}
        return {name: 1.0 for name in self.teachers if name not in used}

    @property
    def undistilled_student(self) -> StudentConfig:
        """Settings of the student that is trained without a teacher: the same model, trained as ``undistilled`` says."""
        return self.student.model_copy(update=self.undistilled.model_dump())

    @property
    def soft_targets(self) -> TargetsConfig:
        """Section ``targets`` with the number of perturbed copies that "auto" stands for."""
        if self.targets.perturbed_copies != "auto":
            return self.targets
        scored = all(self.teachers[name].scores_any_history for name in self.student_teachers)
        copies = _COPIES if scored and self.student.domain is None else 0
        return self.targets.model_copy(update={"perturbed_copies": copies})

    @model_validator(mode="before")
    @classmethod
    def _complete_undistilled(cls, values: Any) -> Any:
        """Take over from section ``student`` what it sets and section ``undistilled`` leaves out."""
        match values:
            case {"student": Mapping() | StudentConfig() as student}:
                given = student.model_dump(exclude_unset=True) if isinstance(student, StudentConfig) else student
                undistilled = values.get("undistilled", {})
                if isinstance(undistilled, Mapping):
                    shared = {name: given[name] for name in UndistilledConfig.model_fields if name in given}
                    return {**values, "undistilled": {**shared, **undistilled}}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = ", ".join(self.teachers)
        for name in self.targets.weights or ():
            if name not in self.teachers:
                raise ValueError(f"targets.weights: found {name!r}, expected names of teachers ({known})")
        earlier: list[str] = []
        for name, teacher in self.teachers.items():
            for other in teacher.learns_from:
                if other not in earlier:
                    raise ValueError(f"teachers.{name}.taught_by: found {other!r}, expected teachers that stand before it")
            earlier.append(name)
        self._check_content()
        self._check_domain()
        self._check_learner("student", self.student, tuple(self.student_teachers))
        for name, teacher in self.teachers.items():
            if teacher.learner is not None:
                self._check_learner(f"teachers.{name}.student", teacher.learner, teacher.learns_from)
        return self

    def _check_content(self) -> None:
        """Refuse names of content that the data has not, and pictures without a model."""
        if self.data.features.pictures and self.image.model is None:
            raise ValueError("data.features.pictures needs image.model, a vision model that embeds them")
        models: dict[str, Any] = {"student": self.student} | {f"teachers.{name}": one for name, one in self.teachers.items()}
        models |= {f"{place}.student": one.learner for place, one in models.items() if getattr(one, "learner", None) is not None}
        for place, model in models.items():
            unknown = sorted(set(getattr(model, "content", None) or ()) - set(self.data.content))
            if unknown:
                known = ", ".join(self.data.content) or "none"
                raise ValueError(
                    f"{place}.content: found {', '.join(unknown)}, expected features and vectors of the data ({known})"
                )

    def _check_domain(self) -> None:
        """Refuse a domain that the data does not know, and where its weights are not read."""
        for name, teacher in self.teachers.items():
            if teacher.learner is not None and teacher.learner.domain is not None:
                raise ValueError(f"teachers.{name}.student.domain: found a domain, expected none: only section student reads it")
        domain = self.student.domain
        if domain is None:
            return
        attributes = self.data.attributes
        if attributes is not None and domain.attribute not in attributes:  # None: all attributes of a named source
            known = ", ".join(attributes) or "none"
            raise ValueError(f"student.domain.attribute: found {domain.attribute!r}, expected one of data.attributes ({known})")
        if self.targets.perturbed_copies not in (0, "auto"):
            raise ValueError(
                f"targets.perturbed_copies: found {self.targets.perturbed_copies} with student.domain, expected 0: perturbed copies"
                " do not say whose histories they are"
            )

    def _check_learner(self, place: str, student: StudentConfig, teachers: tuple[str, ...]) -> None:
        settings, grid = student.distillation, self.targets.temperatures
        temperature = settings.temperature
        for value in (temperature.start, temperature.end) if isinstance(temperature, Ramp) else (temperature,):
            if not min(grid) <= value <= max(grid):
                raise ValueError(
                    f"{place}.distillation.temperature: found {value}, expected one within targets.temperatures"
                    f" ({min(grid)} to {max(grid)})"
                )
        if teachers and isinstance(student.negatives, int) and temperature != 1:
            raise ValueError(
                f"{place}.negatives: found {student.negatives} with a distillation temperature of {temperature}, expected"
                ' "auto" or "all": drawn items can stand for the others at temperature 1 only'
            )
        copies = self.targets.perturbed_copies
        if copies not in (0, "auto") and teachers and not any(self.teachers[name].scores_any_history for name in teachers):
            raise ValueError(
                f"targets.perturbed_copies: found {copies}, expected 0 where {place} learns only from"
                f" external teachers ({', '.join(teachers)}): they have no lists for sequences that DistilRec perturbs. Leave the"
                " copies out, or add a teacher that is a model"
            )
        losses = settings.user_vector_losses
        if not losses:
            return
        vectors = [name for name in teachers if self.teachers[name].has_user_vectors]
        if teachers and (not self.targets.features or len(teachers) > 1 or not vectors):
            raise ValueError(
                f"{place}.distillation: found losses on user vectors ({', '.join(losses)}); they need targets.features = true and"
                f" one teacher that has user vectors (a mixture has none; found {', '.join(teachers)})"
            )
