"""Sections ``student``, ``distillation`` within it, and ``qad``."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from distilrec.config.section import Fraction, Positive, Section
from distilrec.config.training import Ramp, Scheduled, TrainingConfig


class DistillationConfig(Section):
    """How a student learns from soft targets: what each loss counts, and when. A number, or a ramp over the epochs."""

    hard: Scheduled = 0.5
    """Cross-entropy with the true next item."""
    soft: Scheduled = 0.5
    """Softened KL (Hinton 2015)."""
    mse: Scheduled = 0.0
    """Squared difference of logits (Ba and Caruana 2014)."""
    ranking: Scheduled = 0.0
    """Listwise ranking of the teacher's best items (DE-RRD, Kang et al. 2020)."""
    stratified: Scheduled = 0.0
    """Pairs of items of similar popularity (UnKD, Chen et al. 2023)."""
    hint: Scheduled = 0.0
    """The teacher's user vectors through a projection (FitNets, Romero et al. 2014); needs a teacher with user vectors."""
    relation: Scheduled = 0.0
    """Distances and angles between the teacher's user vectors (RKD, Park et al. 2019); needs a teacher with user vectors."""
    temperature: Annotated[float, Field(gt=0)] | Ramp = 1.0
    """T of the softened distributions; within ``targets.temperatures``."""
    confidence: bool = False
    """Adaptive: trust the teacher more where it ranks the true item high (cf. DLLM2Rec, Cui et al. 2024)."""


UNREAD = {"mlp": ("depth", "heads"), "residual": ("heads",), "gru": ("heads", "decays"), "transformer": ("decays",)}
"""Settings that a kind of student has no use for."""


class StudentConfig(TrainingConfig):
    """The small model that is exported. A setting that its kind does not read is a fault unless it has its default."""

    kind: Literal["mlp", "residual", "gru", "transformer"] = "mlp"
    """What encodes a history: ``mlp`` and ``residual`` read decayed averages, ``gru`` and ``transformer`` items in their order."""
    embedding_size: Annotated[int, Field(ge=2)] = 64
    hidden_size: Positive = 128
    """Width of the hidden layers; for ``gru`` of the state, for ``transformer`` of the feed-forward layers."""
    depth: Positive = 1
    """Residual blocks, recurrent layers or transformer layers; an ``mlp`` has its one hidden layer."""
    heads: Positive = 2
    """``transformer``: of attention."""
    dropout: Fraction = 0.4
    decays: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(default=(1.0, 0.9, 0.6), min_length=1)
    """``mlp``, ``residual``: one decayed average of the history for each; the last one is the base that is corrected."""
    table: Literal["full", "low_rank"] = "full"
    """``low_rank``: item vectors share their parameters; each is ``rank`` numbers times one basis for all items."""
    rank: Annotated[int, Field(ge=2)] | None = None
    """``low_rank``: numbers kept for each item, below ``embedding_size``."""
    text: bool = True
    """Add projected title embeddings to the item vectors, where there are any; nothing of it is left at inference."""
    distillation: DistillationConfig = DistillationConfig()
    """Not used by a student that is trained without a teacher."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for setting in UNREAD[self.kind]:
            if (value := getattr(self, setting)) != type(self).model_fields[setting].default:
                raise ValueError(f"{setting} ({value}) is not read by kind {self.kind!r}; leave it out, or choose another kind")
        if self.kind == "transformer" and self.embedding_size % self.heads:
            raise ValueError(f"embedding_size ({self.embedding_size}) must be a multiple of heads ({self.heads})")
        if self.table == "full" and self.rank is not None:
            raise ValueError(f'rank ({self.rank}) is not read by a full table; leave it out, or set table = "low_rank"')
        if self.table == "low_rank" and (self.rank is None or self.rank >= self.embedding_size):
            raise ValueError(f'table = "low_rank" needs a rank below embedding_size ({self.embedding_size}), found {self.rank}')
        return self


class UndistilledConfig(TrainingConfig):
    """What may differ for a student without a teacher: how it is trained, not what it is. It often wants more dropout."""

    dropout: Fraction = 0.4


class QadConfig(TrainingConfig):
    """Quantisation-aware distillation: some more epochs of the student as INT8 will round it."""

    use: Literal["auto", "on", "off"] = "auto"
    """``auto``: when INT8 after training misses the ranking budget."""
    epochs: Positive = 5
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
