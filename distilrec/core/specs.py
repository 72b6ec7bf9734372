"""The serving contract: the only place where tensor names, dtypes and shapes are defined.

ONNX names, config.pbtxt, engine profiles and the client are all derived from :class:`RecommenderSpec`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

PADDING = 0
"""Item index that means "no item". Real items are 1..N."""

MASKED_SCORE = -3e38
"""Score of an item that must not be returned. It is finite because some kernels turn -inf into NaN."""

ROW_MULTIPLE = 8
"""Item tables are padded to a multiple of this many rows; an odd row count doubles the table in a TensorRT plan."""

MODEL_NAME = "student"
"""Name of the served model in the Triton repository."""

FRONT_DOOR_NAME = "recommend"
"""Name of the model whose inputs and outputs are item ids as strings."""

VOCABULARY_NAME = "vocabulary"
"""Name of the model that sends the vocabulary to clients."""

SERVED_MODELS = (VOCABULARY_NAME, MODEL_NAME, FRONT_DOOR_NAME)
"""Models that are filled, promoted and served together, under the same version number. The vocabulary comes first, so that it
is ready for a client that sees the new student."""

CANDIDATE_SUFFIX = "-candidate"
"""End of the names of the same models in another version that is served next to the served one, for a share of the requests."""


def candidate_name(model: str) -> str:
    """Name of the candidate of a model."""
    return model + CANDIDATE_SUFFIX


def vocabulary_model_of(model: str) -> str:
    """Name of the model that sends the vocabulary of a served model or of its candidate."""
    return candidate_name(VOCABULARY_NAME) if model.endswith(CANDIDATE_SUFFIX) else VOCABULARY_NAME


FIRST_VERSION = 1
"""Version that an export fills; promotion adds later versions."""

MODEL_FILE = "model.onnx"
"""The exported model, in an artefact and in the Triton repository."""

PLAN_FILE = "model.plan"
"""A TensorRT engine in the Triton repository."""

WEIGHT_LIMIT = 64
"""Largest magnitude of an INT8 weight. CPUs without VNNI add pairs of products in int16, which +-127 saturates."""

ACTIVATION_LIMIT = 127
"""Largest magnitude of an INT8 activation."""

Dtype = Literal["int32", "float32"]


class Precision(StrEnum):
    """Arithmetic of an exported model."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


class Head(StrEnum):
    """What turns a user vector into the top K."""

    EXHAUSTIVE = "exhaustive"
    """A part of the graph: every item is scored."""
    APPROXIMATE = "approximate"
    """An index finds candidates, which are ranked exactly (``export/heads/approximate.py``)."""


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a request or an answer. ``shape`` omits the batch dimension."""

    name: str
    dtype: Dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class RecommenderSpec:
    """Sizes of one recommender, from which all its tensors are derived."""

    item_count: int
    """N: number of items; their indices are 1..N."""
    history_length: int
    """L: number of newest items that are read from a history."""
    exclude_length: int
    """E: number of further items that a request can exclude."""
    top_k: int
    """K: number of items returned for each request."""
    filter_length: int = 0
    """F: values of item attributes that a request can ask for; 0 for a model without filters."""
    allow_length: int = 0
    """A: items that a request can restrict the answer to; 0 for a model without such lists."""
    repeats: bool = False
    """Whether a request can ask for items of its history, too."""
    similar: bool = False
    """Whether a request can ask for items that are like the newest one of its history."""

    @property
    def history(self) -> TensorSpec:
        """Item indices, oldest first, left-padded with 0."""
        return TensorSpec("history", "int32", (self.history_length,))

    @property
    def exclude(self) -> TensorSpec:
        """Further items that must not be returned, padded with 0."""
        return TensorSpec("exclude", "int32", (self.exclude_length,))

    @property
    def items(self) -> TensorSpec:
        """Recommended items, best first; 0 where fewer than K items are left."""
        return TensorSpec("items", "int32", (self.top_k,))

    @property
    def scores(self) -> TensorSpec:
        """Scores of ``items``."""
        return TensorSpec("scores", "float32", (self.top_k,))

    @property
    def choices(self) -> tuple[TensorSpec, ...]:
        """Optional tensors of a request. A model has those that its settings ask for; where all values are 0, nothing is chosen.

        ``filter``: codes of attribute values (``core.filters``), padded with 0. Values of one attribute are alternatives, and
        several attributes must all fit. An item without a value fits no filter of that attribute. A code that does not exist fits
        no item.

        ``allow``: the only items that may be returned, padded with 0. Where all are 0, every item may be; an index outside 1..N is
        an entry that no item fits.

        ``repeats``: 1 where items of the history may be returned.

        ``similar``: 1 where items are ranked by the cosine of their vectors to that of the newest item of the history.
        """
        sizes = {"filter": self.filter_length, "allow": self.allow_length, "repeats": self.repeats, "similar": self.similar}
        return tuple(TensorSpec(name, "int32", (int(size),)) for name, size in sizes.items() if size)

    @property
    def plain(self) -> "RecommenderSpec":
        """The same sizes, without optional tensors."""
        return RecommenderSpec(self.item_count, self.history_length, self.exclude_length, self.top_k)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Tensors of a request, in the order of the graph's inputs."""
        return self.history, self.exclude, *self.choices

    @property
    def outputs(self) -> tuple[TensorSpec, TensorSpec]:
        """Tensors of an answer, in the order of the graph's outputs."""
        return self.items, self.scores


def spec_of_tensors(item_count: int, lengths: Mapping[str, int]) -> RecommenderSpec:
    """The sizes of a recommender, from the lengths of its tensors.

    Args:
        item_count: N.
        lengths: Length of each tensor by its name; others than those of a recommender do not count.

    Raises:
        KeyError: A tensor is missing that every recommender has.
    """
    return RecommenderSpec(
        item_count,
        lengths["history"],
        lengths["exclude"],
        lengths["items"],
        filter_length=lengths.get("filter", 0),
        allow_length=lengths.get("allow", 0),
        repeats="repeats" in lengths,
        similar="similar" in lengths,
    )


CHOICE_SIZES = ("filter_length", "allow_length", "repeats", "similar")
"""Fields of ``RecommenderSpec`` that only models with optional tensors have; in all others they are 0."""


def table_rows(item_count: int) -> int:
    """Rows of an item table: padding row, N items, filler up to a multiple of ``ROW_MULTIPLE``."""
    return -(-(item_count + 1) // ROW_MULTIPLE) * ROW_MULTIPLE
