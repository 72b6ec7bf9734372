"""Between string ids and the tensors on the wire; pure functions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.errors import InvalidRequest
from distilrec.data.vocabulary import Vocabulary
from distilrec.specs import PADDING, RecommenderSpec


@dataclass(frozen=True)
class Request:
    """One request on the wire, and what could not be said in it."""

    history: NDArray[np.int32]
    """int32 [1, L]."""
    exclude: NDArray[np.int32]
    """int32 [1, E]."""
    k: int
    """How many items are wanted."""
    unknown_ids: tuple[str, ...]


@dataclass(frozen=True)
class Recommendations:
    """Recommended items, best first; iterating gives (id, score) pairs."""

    ids: tuple[str, ...]
    scores: tuple[float, ...]
    unknown_ids: tuple[str, ...]
    """Ids of the request that are not in the vocabulary; they were left out."""
    model_version: str

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return iter(zip(self.ids, self.scores, strict=True))

    def __len__(self) -> int:
        return len(self.ids)


def encode(history: Sequence[str], exclude: Sequence[str], k: int, vocabulary: Vocabulary, spec: RecommenderSpec) -> Request:
    """Encode a request.

    Of a long history the newest L items are read; older ones go to the exclude tensor beside ``exclude`` as far as they
    fit, so that they are not recommended either.

    Raises:
        InvalidRequest: ids that are not strings, k outside 1..K, or more than E ids to exclude.
    """
    if not 1 <= k <= spec.top_k:
        raise InvalidRequest(f"found k = {k}, expected 1 to {spec.top_k}, the most that the model was exported for (export.top_k)")
    for name, ids in (("history", history), ("exclude", exclude)):
        if isinstance(ids, str) or not all(isinstance(item_id, str) for item_id in ids):
            raise InvalidRequest(f"{name}: found {ids!r:.100}, expected a sequence of item ids (strings)")
    unknown = tuple(item_id for item_id in (*history, *exclude) if item_id not in vocabulary)
    seen = [index for index in vocabulary.encode(history) if index != PADDING]
    banned = list(dict.fromkeys(index for index in vocabulary.encode(exclude) if index != PADDING))
    if len(banned) > spec.exclude_length:
        raise InvalidRequest(f"found {len(banned)} ids to exclude, expected at most {spec.exclude_length} (export.exclude_length)")
    newest, older = seen[-spec.history_length :], seen[: -spec.history_length]
    banned = list(dict.fromkeys([*banned, *reversed(older)]))[: spec.exclude_length]
    history_row = np.full((1, spec.history_length), PADDING, np.int32)
    exclude_row = np.full((1, spec.exclude_length), PADDING, np.int32)
    history_row[0, spec.history_length - len(newest) :] = newest
    exclude_row[0, : len(banned)] = banned
    return Request(history_row, exclude_row, k, unknown)


def decode(
    items: NDArray[np.int32], scores: NDArray[np.float32], request: Request, vocabulary: Vocabulary, model_version: str
) -> Recommendations:
    """Decode the answer to ``request``; ``items`` int32 [1, K] and ``scores`` float32 [1, K]."""
    best = items[0, : request.k]
    best = best[best != PADDING]
    ids = tuple(vocabulary.decode(best.tolist()))
    return Recommendations(ids, tuple(scores[0, : len(best)].tolist()), request.unknown_ids, model_version)
