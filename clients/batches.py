"""Many histories in few requests: how they are packed, and how their results are put in order."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clients.codec import Filter, Query, Repeats, Result
from clients.errors import ClientError, InvalidRequest

ProgressOption = bool | Callable[[int], object]
"""True shows a progress bar; a function is called with the number of histories that were finished since its last call."""


@dataclass(frozen=True)
class RequestBatch:
    """The histories of one request."""

    queries: list[Query]


def split(queries: Sequence[Query], size: int) -> list[RequestBatch]:
    """Pack queries, ``size`` to a request."""
    return [RequestBatch(list(queries[begin : begin + size])) for begin in range(0, len(queries), size)]


def queries_of(
    histories: Iterable[Iterable[str]],
    exclude: Sequence[Iterable[str]] | None = None,
    filter: Filter | Sequence[Filter | None] | None = None,  # noqa: A002 - the name that callers write
    allow: Sequence[Iterable[str] | None] | None = None,
    repeats: Repeats = "never",
) -> list[Query]:
    """One query for each history.

    Args:
        histories: Item ids of each history.
        exclude: For each history the ids that must not be recommended.
        filter: One filter for all histories, or one for each.
        allow: For each history the only ids that may be recommended.
        repeats: For all histories.

    Raises:
        InvalidRequest: A list is not as long as ``histories``.
    """
    if isinstance(histories, str | bytes):
        raise InvalidRequest(f"histories: found {histories!r:.100}, expected a sequence of histories")
    listed = list(histories)
    filters: Sequence[Filter | None] = [filter] * len(listed) if filter is None or isinstance(filter, Mapping) else filter
    lists: dict[str, Sequence[Any]] = {
        "exclude": [()] * len(listed) if exclude is None else exclude,
        "filter": filters,
        "allow": [None] * len(listed) if allow is None else allow,
    }
    for name, entries in lists.items():
        if isinstance(entries, str | bytes) or len(entries) != len(listed):
            raise InvalidRequest(f"{name}: found {len(entries)} entries for {len(listed)} histories, expected one for each")
    rows = zip(listed, lists["exclude"], lists["filter"], lists["allow"], strict=True)
    return [Query(history, banned, wanted, allowed, repeats) for history, banned, wanted, allowed in rows]


@contextlib.contextmanager
def progress_reporter(progress: ProgressOption, batches: Sequence[RequestBatch]) -> Iterator[Callable[[RequestBatch], object]]:
    """Return a function to call with each batch that is finished."""
    if progress is True:
        from distilrec.core.progress import progress as bar  # its tqdm is an optional extra

        with bar(total=sum(len(batch.queries) for batch in batches), unit="history", desc="recommend") as shown:
            yield lambda batch: shown.update(len(batch.queries))
    else:
        yield lambda batch: progress(len(batch.queries)) if callable(progress) else None


def in_order(batches: Sequence[RequestBatch], results: Sequence[list[Result] | ClientError | None]) -> list[Result]:
    """Return one result for each history, in order.

    Args:
        batches: Batches in the order of their histories.
        results: For each batch its results, or the error of its request, or None if it was not sent because another had failed.

    Raises:
        ClientError: no batch was answered.
    """
    failure = next((result for result in results if isinstance(result, ClientError)), None)
    if failure is not None and not any(isinstance(result, list) for result in results):
        raise failure
    ordered: list[Result] = []
    for batch, result in zip(batches, results, strict=True):
        ordered += result if isinstance(result, list) else [failure or InvalidRequest("was not asked")] * len(batch.queries)
    return ordered
