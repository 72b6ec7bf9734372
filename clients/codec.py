"""Between string ids and the tensors on the wire; pure functions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clients.errors import ClientError, InvalidRequest
from distilrec.core.histories import cut_history, request_tensors
from distilrec.core.specs import PADDING, RecommenderSpec
from distilrec.data.vocabulary import Vocabulary

Query = tuple[Iterable[str], Iterable[str]]
"""Item ids of a history, oldest first, and item ids that must not be recommended."""


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

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return iter(zip(self.ids, self.scores, strict=True))

    def __len__(self) -> int:
        return len(self.ids)


Result = Recommendations | ClientError
"""What a client returns for one of many histories."""


def check_k(k: int, spec: RecommenderSpec) -> None:
    """Raise InvalidRequest unless ``k`` is a whole number from 1 to K."""
    if not isinstance(k, int | np.integer) or isinstance(k, bool):
        raise InvalidRequest(f"found k = {k!r}, expected a whole number")
    if not 1 <= k <= spec.top_k:
        raise InvalidRequest(f"found k = {k}, expected 1 to {spec.top_k}, the most that the model was exported for (export.top_k)")


def encode(history: Iterable[str], exclude: Iterable[str], vocabulary: Vocabulary, spec: RecommenderSpec) -> EncodedQuery:
    """Encode one query.

    The model reads the newest L items of a long history. Older ones follow ``exclude`` in the exclude tensor, as far as they fit,
    so that they are not recommended either.

    Raises:
        InvalidRequest: ids that are not strings, or more than E ids to exclude.
    """
    history_ids, exclude_ids = _strings("history", history), _strings("exclude", exclude)
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
    cut = cut_history(indices, banned, spec.history_length, spec.exclude_length)
    return EncodedQuery(cut.newest, cut.exclude, unknown, frozenset(cut.left_over))


def pack(queries: Sequence[EncodedQuery], spec: RecommenderSpec) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the tensors of B queries: history int32 [B, L], padded on the left, and exclude int32 [B, E], padded on the right."""
    histories, excludes = [query.history for query in queries], [query.exclude for query in queries]
    return request_tensors(histories, excludes, spec.history_length, spec.exclude_length)


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
    # Usually the first k columns are enough; the others replace items that are removed from the answer.
    width = items.shape[1] if any(query.overflow for query in queries) else k
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
