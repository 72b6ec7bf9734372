"""Settings that trainings of teachers and students share."""

from typing import Annotated, Literal

from pydantic import Field

from distilrec.config.section import Fraction, Positive, Section


class Ramp(Section):
    """A value that moves from ``start`` to ``end`` over the epochs."""

    start: Annotated[float, Field(ge=0)]
    end: Annotated[float, Field(ge=0)]
    shape: Literal["linear", "cosine"] = "linear"


Scheduled = Annotated[float, Field(ge=0)] | Ramp


class TrainingConfig(Section):
    """How a model is fitted; shared by teachers and students."""

    epochs: Positive = 50
    """Most passes over the data."""
    patience: Positive = 5
    """Epochs without a better validation NDCG@10 after which the training stops."""
    batch_size: Positive | Literal["auto"] = "auto"
    """Sequences in a step. ``auto``: so many that an epoch has some 128 steps, but a step at most some 3,000 predictions."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """``sgd`` has a momentum of 0.9."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    """``cosine``: the learning rate falls to 0 over ``epochs``."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs over which the learning rate rises from 0, step by step."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Decoupled from the gradient for ``adamw`` (Loshchilov and Hutter 2019), L2 for the others; not for biases and norms."""
    ema_decay: Fraction = 0.995
    """Validate and keep an exponential moving average of the weights with this decay a step; 0 keeps the weights themselves."""
    precision: Literal["auto", "float32"] = "auto"
    """``auto``: matrix products in bfloat16 where the GPU or the CPU multiplies it faster; weights and losses are float32."""
    negatives: Positive | Literal["auto", "all"] = "auto"
    """Random items that each step scores besides the true ones (sampled softmax) and those of the teacher; ``all``: the whole
    catalogue. ``auto``: all of up to some 8,000 items, else 1,024. Soft targets allow it at temperature 1."""
