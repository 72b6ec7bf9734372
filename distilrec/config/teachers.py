"""Section ``teachers`` and what they leave for students: section ``targets``."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from distilrec.config.section import Fraction, Positive, Section
from distilrec.config.student import StudentConfig
from distilrec.config.training import TrainingConfig


class NeuralTeacherConfig(TrainingConfig):
    """A teacher that is fitted."""

    asked_prefixes_per_window: Positive | None = None
    """Ask only about the newest so many prefixes of each training window (of ``history_length``). None for all, which costs a
    teacher of kind ``text`` or objective ``masked`` a pass for each. What it was not asked about is learned from the other
    teachers and the true items."""


class SequenceTeacherConfig(NeuralTeacherConfig):
    """A BERT body that reads item sequences."""

    kind: Literal["sequence"] = "sequence"
    objective: Literal["causal", "masked"] = "causal"
    """``causal``: each position predicts the next item (SASRec). ``masked``: hidden items are guessed from both sides."""
    mask_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """``masked``: share of the items of a window that are hidden."""
    embedding_size: Positive = 128
    """Size of item vectors and of the transformer's hidden state."""
    layers: Positive = 2
    heads: Positive = 4
    dropout: Fraction = 0.3
    text: bool = True
    """Add projected title embeddings to the item vectors, where there are any (section ``text``)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.embedding_size % self.heads:
            raise ValueError(f"embedding_size ({self.embedding_size}) must be a multiple of heads ({self.heads})")
        return self


class TextTeacherConfig(NeuralTeacherConfig):
    """A pretrained BERT that reads the titles of a history as text, and is fine-tuned."""

    kind: Literal["text"] = "text"
    model: str | Path | None = None
    """Folder of a model of the BERT family and its tokenizer, or its name on the Hugging Face hub; None for the one that embeds
    titles (section ``text``)."""
    revision: str = "main"
    """Branch, tag or commit of a model on the hub."""
    freeze: Literal["none", "gradual"] | Annotated[int, Field(ge=0, strict=True)] = "none"
    """What of the model stays as it is: nothing, the embeddings and the first so many layers, or ``gradual``: at first all, then
    one more layer learns at a time, from the top (Howard and Ruder 2018)."""
    unfreeze_every: Positive = 1
    """``gradual``: epochs until one more layer learns."""
    body_learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    """Of the pretrained model; ``learning_rate`` is that of the head and the item vectors."""
    max_titles: Positive = 20
    """Newest titles of a history that are read."""
    max_tokens: Annotated[int, Field(ge=3)] = 256
    """Tokens that are read, the two at the ends included; the oldest are left out."""
    prefixes_per_window: Positive = 4
    """Prefixes of each window that a step learns from, drawn anew each epoch."""
    embedding_size: Annotated[int, Field(ge=2)] = 128
    dropout: Fraction = 0.1
    text: bool = True
    """Add projected title embeddings to the item vectors that candidates are scored with (section ``text``)."""
    epochs: Positive = 10
    batch_size: Positive = 16
    weight_decay: Annotated[float, Field(ge=0)] = 0.01


class EaseTeacherConfig(Section):
    """A linear item-item model in closed form (Steck 2019): one inversion of an N x N matrix."""

    kind: Literal["ease"] = "ease"
    l2: Annotated[float, Field(gt=0)] = 100.0
    """Regularisation: what is added to the diagonal of the co-occurrence matrix."""
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Weight of an item of the history relative to the one after it."""
    scale: Annotated[float, Field(gt=0)] = 10.0
    """Logits are scores times this, since EASE's scores are no log-probabilities."""


class AssistantTeacherConfig(Section):
    """A larger student that teaches the smaller one (teacher assistant, Mirzadeh et al. 2019)."""

    kind: Literal["assistant"] = "assistant"
    student: SerializeAsAny[StudentConfig] = Field(
        default_factory=lambda: StudentConfig.of_kind(embedding_size=128, hidden_size=512)
    )
    taught_by: tuple[str, ...] = ()
    """Names of the teachers it learns from; none for a large model that is trained alone."""


Teacher = Annotated[
    SequenceTeacherConfig | TextTeacherConfig | EaseTeacherConfig | AssistantTeacherConfig, Field(discriminator="kind")
]


class TargetsConfig(Section):
    """What is kept of a teacher's opinion of each training prefix, and of how teachers are mixed."""

    top_n: Positive = 100
    """Items and logits kept for each prefix."""
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(1.0, 2.0, 4.0), min_length=1)
    """T for which the mass outside the top n is kept (Hinton 2015); a student may use any temperature between them."""
    perturbed_copies: Annotated[int, Field(ge=0)] = 0
    """Copies of the training sequences with items left out at random that the teachers are asked about, too. On what it was
    trained on a teacher repeats the true items; on these it says what it thinks (cf. Yue et al. 2021)."""
    drop_fraction: Fraction = 0.3
    """Share of items left out of a copy."""
    features: bool = False
    """Keep the teacher's user vectors, too; the losses ``hint`` and ``relation`` need them."""
    batch_size: Positive = 64
    weights: dict[str, Annotated[float, Field(gt=0)]] | None = Field(default=None, min_length=1)
    """The ensemble: teachers by name, and how much the log-probabilities of each count. Default: all teachers that no assistant
    learns from, equally."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.temperatures) != sorted(set(self.temperatures)) or 1.0 not in self.temperatures:
            raise ValueError(f"temperatures must rise and hold 1.0, at which teachers are mixed (found {self.temperatures})")
        return self
