"""Between string ids and the tensors on the wire; pure functions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from clients.errors import ClientError, InvalidRequest
from distilrec.core.filters import FilterError, FilterValues, pairs_of
from distilrec.core.histories import cut_history, request_tensors
from distilrec.core.specs import PADDING, RecommenderSpec
from distilrec.data.vocabulary import Vocabulary

Repeats = Literal["never", "allow"]
"""Whether items of the history may be recommended."""

Variant = Literal["served", "candidate"]
"""Which of two versions that are served at once."""

Filter = Mapping[str, Iterable[str] | str]
"""For each attribute, by its name, the value that is wanted or several; several attributes must all fit."""


class Query(NamedTuple):
    """What is asked for one history."""

    history: Iterable[str] = ()
    """Item ids, oldest first."""
    exclude: Iterable[str] = ()
    """Item ids that must not be recommended."""
    filter: Filter | None = None
    """Values of attributes that recommended items must have; None for all items."""
    allow: Iterable[str] | None = None
    """The only item ids that may be recommended; None for all items."""
    repeats: Repeats = "never"
    similar: bool = False
    """Rank items by how much they are like the newest one of the history."""


@dataclass(frozen=True)
class EncodedQuery:
    """One query as item indices, and the part of it that the tensors cannot hold."""

    history: list[int]
    """At most L item indices, oldest first."""
    exclude: list[int]
    """At most E item indices."""
    unknown_ids: tuple[str, ...]
    """Ids of the query that are not in the vocabulary."""
    overflow: frozenset[int] = frozenset()
    """Older items of a long history that have no room in either tensor; they are removed from the answer."""
    choices: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Values of the optional tensors by name, where something is chosen; each is shorter than its tensor, or as long."""


@dataclass(frozen=True)
class Recommendations:
    """Recommended items, best first; iterating gives (id, score) pairs."""

    ids: tuple[str, ...]
    scores: tuple[float, ...]
    titles: tuple[str, ...]
    unknown_ids: tuple[str, ...]
    """Ids of the request that are not in the vocabulary; they were left out."""
    model_version: str
    latency_ms: float = field(compare=False)
    """Milliseconds from the call to the answer, retries included; in a packed request the same for all its histories."""
    missing: int = 0
    """How many items fewer than asked for these are: no other item was left by history, exclude, filter and allow."""
    variant: Variant = "served"
    """Which version answered, where a client splits requests between the served one and a candidate."""
    propensity: float = 1.0
    """Probability with which the split chooses this version; 1 without a split or key."""

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return iter(zip(self.ids, self.scores, strict=True))

    def __len__(self) -> int:
        return len(self.ids)


NO_ITEM = -1
"""Entry of the tensor ``allow`` that no item fits: a list without a known item allows none."""

_SETTINGS = {
    "filter": "data.filters",
    "allow": "export.allow_length",
    "repeats": 'export.repeats = "allow"',
    "similar": "export.similar",
}
"""For each choice, the setting that gives it to a model."""

_NOTHING_CHOSEN = Query()[2:]

Result = Recommendations | ClientError
"""What a client returns for one of many histories."""


def check_k(k: int, spec: RecommenderSpec) -> None:
    """Raise InvalidRequest unless ``k`` is a whole number from 1 to K."""
    if not isinstance(k, int | np.integer) or isinstance(k, bool):
        raise InvalidRequest(f"found k = {k!r}, expected a whole number")
    if not 1 <= k <= spec.top_k:
        raise InvalidRequest(f"found k = {k}, expected 1 to {spec.top_k}, the most that the model was exported for (export.top_k)")


def encode(query: Query, vocabulary: Vocabulary, spec: RecommenderSpec, filters: FilterValues | None = None) -> EncodedQuery:
    """Encode one query.

    The model reads the newest L items of a long history. Older ones follow ``exclude`` in the exclude tensor, as far as they fit,
    so that they are not recommended either, unless repeats are allowed.

    Args:
        query: What is asked.
        vocabulary: Vocabulary of the model.
        spec: Sizes of the model.
        filters: Attributes that the model declares.

    Raises:
        InvalidRequest: ids that are not strings, too many ids, or a choice that the model does not have.
    """
    history_ids, exclude_ids = _strings("history", query.history), _strings("exclude", query.exclude)
    indices, banned = vocabulary.encode(history_ids), vocabulary.encode(exclude_ids)
    unknown: tuple[str, ...] = ()
    if PADDING in indices or PADDING in banned:
        unknown = tuple(item_id for item_id in (*history_ids, *exclude_ids) if item_id not in vocabulary)
        indices = [index for index in indices if index != PADDING]
        banned = [index for index in banned if index != PADDING]
    if len(set(banned)) > spec.exclude_length:
        raise InvalidRequest(
            f"found {len(set(banned))} ids to exclude, expected at most {spec.exclude_length} (export.exclude_length)"
        )
    if query.similar and not indices:
        raise InvalidRequest(f"similar: found {history_ids[0]!r:.100}, expected the id of an item that the model knows")
    if query[2:] == _NOTHING_CHOSEN:
        cut = cut_history(indices, banned, spec.history_length, spec.exclude_length)
        return EncodedQuery(cut.newest, cut.exclude, unknown, frozenset(cut.left_over))
    choices, unknown_allowed = _encode_choices(query, vocabulary, spec, filters or FilterValues({}))
    if query.repeats == "allow":
        indices = indices[-spec.history_length :]
    cut = cut_history(indices, banned, spec.history_length, spec.exclude_length)
    return EncodedQuery(cut.newest, cut.exclude, unknown + unknown_allowed, frozenset(cut.left_over), choices)


def _encode_choices(
    query: Query, vocabulary: Vocabulary, spec: RecommenderSpec, filters: FilterValues
) -> tuple[dict[str, list[int]], tuple[str, ...]]:
    """Values of the optional tensors by name, and the ids of ``allow`` that are unknown. Raises as ``encode``."""
    if query.repeats not in get_args(Repeats):
        raise InvalidRequest(f"repeats: found {query.repeats!r:.100}, expected one of {', '.join(map(repr, get_args(Repeats)))}")
    asked = {
        "filter": bool(query.filter),
        "allow": query.allow is not None,
        "repeats": query.repeats == "allow",
        "similar": query.similar,
    }
    for name, setting in _SETTINGS.items():
        if asked[name] and name not in (tensor.name for tensor in spec.choices):
            raise InvalidRequest(f"{name}: found it in the request, but the model was exported without it ({setting})")
    choices: dict[str, list[int]] = {name: [1] for name in ("repeats", "similar") if asked[name]}
    unknown: tuple[str, ...] = ()
    if query.filter:
        try:
            choices["filter"] = filters.encode(pairs_of(query.filter), spec.filter_length)
        except FilterError as error:
            raise InvalidRequest(str(error)) from None
    if query.allow is not None:
        ids = _strings("allow", query.allow)
        unknown = tuple(item_id for item_id in ids if item_id not in vocabulary)
        allowed = sorted({index for index in vocabulary.encode(ids) if index != PADDING})
        if len(allowed) > spec.allow_length:
            raise InvalidRequest(f"allow: found {len(allowed)} ids, expected at most {spec.allow_length} (export.allow_length)")
        choices["allow"] = allowed or [NO_ITEM]
    return choices, unknown


def pack(
    queries: Sequence[EncodedQuery], spec: RecommenderSpec
) -> tuple[NDArray[np.int32], NDArray[np.int32], dict[str, NDArray[np.int32]]]:
    """Return the tensors of B queries.

    Returns:
        History int32 [B, L], padded on the left; exclude int32 [B, E], padded on the right; and by name all optional tensors that
        the model has, int32 [B, ...].
    """
    histories, excludes = [query.history for query in queries], [query.exclude for query in queries]
    choices = {}
    for tensor in spec.choices:
        values = choices[tensor.name] = np.zeros((len(queries), *tensor.shape), np.int32)
        for row, query in enumerate(queries):
            chosen = query.choices.get(tensor.name, ())
            values[row, : len(chosen)] = chosen
    return *request_tensors(histories, excludes, spec.history_length, spec.exclude_length), choices


def decode(
    items: NDArray[np.int32],
    scores: NDArray[np.float32],
    queries: Sequence[EncodedQuery],
    k: int,
    *,
    vocabulary: Vocabulary,
    model_version: str,
    latency_ms: float,
) -> list[Recommendations]:
    """Decode the model's answers.

    Args:
        items: int32 [B, K]: item indices, best first, padded with 0.
        scores: float32 [B, K]: scores of ``items``.
        queries: The B queries that were sent.
        k: Largest number of items in each answer, at most K.
        vocabulary: Vocabulary of the version that answered.
        model_version: Version that answered.
        latency_ms: Milliseconds from the call to the answer.
    """
    width = items.shape[1] if any(query.overflow for query in queries) else k  # others replace items that are removed
    answers = []
    for query, best, best_scores in zip(queries, items[:, :width].tolist(), scores[:, :width].tolist(), strict=True):
        indices, values = best[:k], best_scores[:k]
        if PADDING in best or query.overflow:
            pairs = [pair for pair in zip(best, best_scores, strict=True) if pair[0] != PADDING and pair[0] not in query.overflow]
            indices, values = ([pair[part] for pair in pairs[:k]] for part in (0, 1))
        answers.append(
            Recommendations(
                ids=tuple(vocabulary.decode(indices)),
                scores=tuple(values),
                titles=tuple([vocabulary.titles[index - 1] for index in indices]),
                unknown_ids=query.unknown_ids,
                model_version=model_version,
                latency_ms=latency_ms,
                missing=k - len(indices),
            )
        )
    return answers


def _strings(name: str, ids: Iterable[str]) -> list[str]:
    if not isinstance(ids, str | bytes):
        try:
            listed = list(ids)
        except TypeError:
            pass
        else:
            if all(isinstance(item_id, str) for item_id in listed):
                return listed
    raise InvalidRequest(f"{name}: found {ids!r:.100}, expected a sequence of item ids (strings)")
