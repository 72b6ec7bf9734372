"""What kinds of teachers share: those fitted by gradient descent, and those solved in closed form."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from distill.models.catalogue import Catalogue
from distill.models.encoders import Encoder, Scorer
from distill.models.weights import load_weights, save_weights
from distilrec.config import DistillationConfig, ItemVectorConfig, TeacherConfig, TextConfig, TrainingConfig
from distilrec.config.section import Positive


class FittedTeacherConfig(TeacherConfig):
    """A teacher that is fitted by gradient descent."""

    @property
    @abstractmethod
    def training(self) -> TrainingConfig:
        """How it is fitted."""

    @property
    @abstractmethod
    def item_vectors(self) -> ItemVectorConfig:
        """What its item vectors are made of."""

    @property
    def distillation(self) -> DistillationConfig | None:
        """How it learns from other teachers' soft targets."""
        return None

    @abstractmethod
    def describe(self, *, distilled: bool) -> str:
        """Summary for the model card.

        Args:
            distilled: Whether it learned from other teachers.
        """

    @abstractmethod
    def build(self, catalogue: Catalogue, history_length: int) -> Encoder:
        """An untrained teacher.

        Args:
            catalogue: Items and what is known of them.
            history_length: L, the newest items of a history that the teacher reads.
        """

    def save(self, teacher: Encoder, folder: Path) -> None:
        """Write what ``load`` reads. The item table is folded."""
        save_weights(teacher, folder)

    def load(self, folder: Path, item_count: int, history_length: int) -> Encoder:
        """See ``TeacherConfig``."""
        teacher = self.build(Catalogue(item_count), history_length)
        load_weights(teacher, folder)
        return teacher


class NeuralTeacherConfig(FittedTeacherConfig, TrainingConfig, ItemVectorConfig):
    """A fitted teacher whose section holds its training settings."""

    summary: ClassVar[str]
    """For the model card."""

    asked_prefixes_per_window: Positive | None = None
    """Write soft targets only for the newest so many prefixes of each training window (of ``history_length``). None for all,
    which costs a teacher of kind ``text`` or objective ``masked`` one pass for each. Students learn the other prefixes from
    the other teachers and the true items."""

    @property
    def training(self) -> TrainingConfig:
        """See ``FittedTeacherConfig``."""
        return self

    @property
    def item_vectors(self) -> ItemVectorConfig:
        """See ``FittedTeacherConfig``."""
        return self

    @property
    def newest_scored(self) -> int | None:
        """See ``TeacherConfig``."""
        return self.asked_prefixes_per_window

    def describe(self, *, distilled: bool) -> str:  # noqa: ARG002 - it never learns from others
        """See ``FittedTeacherConfig``."""
        return self.summary

    def recorded(self, text: TextConfig) -> dict[str, Any]:  # noqa: ARG002
        """See ``TeacherConfig``; which prefixes get soft targets does not change the teacher."""
        return self.model_dump(mode="json", exclude={"asked_prefixes_per_window"} | self.unset())


class SolvedTeacherConfig(TeacherConfig):
    """A teacher that is solved in closed form."""

    summary: ClassVar[str]
    """For the model card."""

    @abstractmethod
    def solve(self, dataset: Any) -> Scorer:
        """The teacher of these training sequences (``distilrec.data.dataset.Dataset``)."""

    @abstractmethod
    def save(self, teacher: Any, folder: Path) -> None:
        """Write what ``load`` reads."""


class ListedTeacherConfig(TeacherConfig):
    """A teacher that is no model here: it has lists of items for some prefixes of the training sequences."""

    summary: ClassVar[str]
    """For the card."""
    has_user_vectors = False
    scores_any_history = False

    @abstractmethod
    def read(self, data: Path, history_length: int) -> tuple[Any, dict[str, Any]]:
        """The teacher, and facts about its lists for the manifest, JSON-ready.

        Args:
            data: Folder of the data stage.
            history_length: L.
        """

    @abstractmethod
    def save(self, teacher: Any, folder: Path) -> None:
        """Write what ``load`` reads."""
