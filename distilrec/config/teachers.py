"""Section ``teachers`` and what they leave for students: section ``targets``."""

from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from distilrec.config.data import TextConfig
from distilrec.config.kinds import KindSection
from distilrec.config.section import Fraction, Positive, Section
from distilrec.config.student import StudentConfig
from distilrec.core.registry import Registry


class TeacherConfig(KindSection):
    """A model that students learn from. A kind is a subclass in a module of ``distill.models.teachers``."""

    kinds: ClassVar[Registry[type[KindSection]]] = Registry("teacher kind", "distill.models.teachers", "train")

    has_user_vectors: ClassVar[bool] = True
    """Whether the teacher makes a vector of each user, which some losses learn from."""

    scores_any_history: ClassVar[bool] = True
    """Whether the teacher is a model; otherwise it only has lists for some histories, and none for perturbed copies."""

    @property
    def learns_from(self) -> tuple[str, ...]:
        """Names of the teachers that this one learns from."""
        return ()

    @property
    def learner(self) -> StudentConfig | None:
        """Settings of the student that this teacher is, where it is one."""
        return None

    @property
    def newest_scored(self) -> int | None:
        """Newest prefixes of each training window that get soft targets; None for all."""
        return None

    def recorded(self, text: TextConfig) -> dict[str, Any]:  # noqa: ARG002 - some kinds read it
        """Settings that the trained teacher depends on, JSON-ready, for its manifest.

        Args:
            text: Section ``text`` of the run.
        """
        return self.model_dump(mode="json")

    def unlisted(self, folder: Path, histories: NDArray[np.int32]) -> NDArray[np.bool_]:  # noqa: ARG002 - a model scores all of them
        """Histories that the trained teacher cannot score: none, unless it has lists for some histories alone. bool [U].

        Args:
            folder: Finished stage folder.
            histories: int32 [U, L], left-padded with 0.
        """
        return np.zeros(len(histories), np.bool_)

    @abstractmethod
    def load(self, folder: Path, item_count: int, history_length: int) -> Any:
        """The trained teacher of this folder, ready for inference.

        Args:
            folder: Finished stage folder.
            item_count: N.
            history_length: L.

        Returns:
            A ``distill.models.encoders.Scorer``. Settings do not depend on PyTorch, therefore the type is ``Any`` here.
        """


class TargetsConfig(Section):
    """What is kept of a teacher's scores of each training prefix, and how teachers are mixed."""

    top_n: Positive = 32
    """Items and logits kept for each prefix; of all others, their mass alone."""
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(1.0, 2.0, 4.0), min_length=1)
    """T for which the mass outside the top n is kept (Hinton 2015); a student may use any temperature between them."""
    perturbed_copies: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Copies of the training sequences, with items left out at random, that the teachers score, too, because a teacher mostly
    repeats the true next item on sequences it was trained on (cf. Yue et al. 2021). ``auto``: 2, and none where a teacher only has
    lists for some histories or ``student.domain`` weights users."""
    drop_fraction: Fraction = 0.3
    """Share of items left out of a copy."""
    logits: Literal["float16", "int8"] = "float16"
    """How logits are kept. ``int8``: in half the room, rounded to 1/255 of the distance between a prefix's best and lowest one."""
    features: bool = False
    """Keep the teacher's user vectors, too; losses on user vectors need them."""
    batch_size: Positive = 64
    weights: dict[str, Annotated[float, Field(gt=0)]] | None = Field(default=None, min_length=1)
    """The ensemble: teachers by name, and the weight of each one's log-probabilities. Default: all teachers that no assistant
    learns from; the stage ``teachers-verdict`` finds their weights on validation users, and leaves out those that add nothing."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.temperatures) != sorted(set(self.temperatures)) or 1.0 not in self.temperatures:
            raise ValueError(f"temperatures must rise and hold 1.0, at which teachers are mixed (found {self.temperatures})")
        return self
