"""Between string ids and the tensors on the wire; pure functions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clients.errors import InvalidRequest
from distilrec.core.histories import cut_history, request_tensors
from distilrec.core.specs import PADDING, RecommenderSpec
from distilrec.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class Row:
    """One history on the wire, and what could not be said there."""

    history: list[int]
    """At most L indices, oldest first."""
    exclude: list[int]
    """At most E indices."""
    unknown_ids: tuple[str, ...]
    unsaid: frozenset[int] = frozenset()
    """Older items of a long history that have no room in either tensor; they are taken out of the answer."""


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
    """From the call to the answer, retries and all, in milliseconds; of a packed request, that of all its histories."""

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return iter(zip(self.ids, self.scores, strict=True))

    def __len__(self) -> int:
        return len(self.ids)


def check_k(k: int, spec: RecommenderSpec) -> None:
    """Raise InvalidRequest unless ``k`` is a whole number of 1..K."""
    if not isinstance(k, int | np.integer) or isinstance(k, bool):
        raise InvalidRequest(f"found k = {k!r}, expected a whole number")
    if not 1 <= k <= spec.top_k:
        raise InvalidRequest(f"found k = {k}, expected 1 to {spec.top_k}, the most that the model was exported for (export.top_k)")


def encode(history: Iterable[str], exclude: Iterable[str], vocabulary: Vocabulary, spec: RecommenderSpec) -> Row:
    """Encode one history.

    Of a long history the newest L items are read; older ones go to the exclude tensor beside ``exclude`` as far as they
    fit, so that they are not recommended either.

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
    return Row(cut.newest, cut.exclude, unknown, frozenset(cut.left_over))


def pack(rows: Sequence[Row], spec: RecommenderSpec) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """History int32 [B, L], left-padded, and exclude int32 [B, E] of ``rows``."""
    histories, excludes = [row.history for row in rows], [row.exclude for row in rows]
    return request_tensors(histories, excludes, spec.history_length, spec.exclude_length)


def decode(
    items: NDArray[np.int32],
    scores: NDArray[np.float32],
    rows: Sequence[Row],
    k: int,
    *,
    vocabulary: Vocabulary,
    model_version: str,
    latency_ms: float,
) -> list[Recommendations]:
    """Decode the answers to ``rows``; ``items`` int32 [B, K] and ``scores`` float32 [B, K]."""
    width = items.shape[1] if any(row.unsaid for row in rows) else k
    answers = []
    for row, best, values in zip(rows, items[:, :width].tolist(), scores[:, :width].tolist(), strict=True):
        if PADDING in best or row.unsaid:
            pairs = [pair for pair in zip(best, values, strict=True) if pair[0] != PADDING and pair[0] not in row.unsaid]
            best, values = ([pair[part] for pair in pairs[:k]] for part in (0, 1))  # noqa: PLW2901
        indices, numbers = best[:k], values[:k]
        answers.append(
            Recommendations(
                ids=tuple(vocabulary.decode(indices)),
                scores=tuple(numbers),
                titles=tuple([vocabulary.titles[index - 1] for index in indices]),
                unknown_ids=row.unknown_ids,
                model_version=model_version,
                latency_ms=latency_ms,
            )
        )
    return answers


def _strings(name: str, ids: Iterable[str]) -> list[str]:
    if not isinstance(ids, str | bytes):
        try:
            found = list(ids)
        except TypeError:
            pass
        else:
            if all(isinstance(item_id, str) for item_id in found):
                return found
    raise InvalidRequest(f"{name}: found {ids!r:.100}, expected a sequence of item ids (strings)")
