"""Many histories in few requests: how they are packed, and their answers put in order."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from clients.codec import Recommendations
from clients.errors import ClientError, InvalidRequest

Progress = bool | Callable[[int], object]
"""True shows a bar; a function is told how many more are done."""

Answers = list[Recommendations | ClientError]


@dataclass(frozen=True)
class Batch:
    """Histories of one request, each with what to exclude."""

    rows: list[tuple[Iterable[str], Iterable[str]]]


def split(histories: Iterable[Iterable[str]], exclude: Sequence[Iterable[str]] | None, size: int) -> list[Batch]:
    """Pack histories, ``size`` to a request.

    Raises:
        InvalidRequest: ``exclude`` is not as long as ``histories``.
    """
    if isinstance(histories, str | bytes):
        raise InvalidRequest(f"histories: found {histories!r:.100}, expected a sequence of histories")
    found = list(histories)
    if exclude is not None and len(exclude) != len(found):
        raise InvalidRequest(f"exclude: found {len(exclude)} entries for {len(found)} histories, expected one for each")
    rows = list(zip(found, exclude if exclude is not None else [()] * len(found), strict=True))
    return [Batch(rows[begin : begin + size]) for begin in range(0, len(rows), size)]


@contextlib.contextmanager
def telling(progress: Progress, batches: Sequence[Batch]) -> Iterator[Callable[[Batch], object]]:
    """What is to be called for each batch that is done."""
    if progress is True:
        from distilrec.core.progress import progress as bar

        with bar(total=sum(len(batch.rows) for batch in batches), unit="history", desc="recommend") as shown:
            yield lambda batch: shown.update(len(batch.rows))
    else:
        yield lambda batch: progress(len(batch.rows)) if callable(progress) else None


def in_order(batches: Sequence[Batch], answers: Sequence[Answers | ClientError | None]) -> Answers:
    """One entry a history, in order.

    Args:
        batches: what was asked.
        answers: of each batch, in the same order: its answers, why it has none, or None: it was not asked any more after that.

    Raises:
        ClientError: no batch was answered.
    """
    failure = next((answer for answer in answers if isinstance(answer, ClientError)), None)
    if failure is not None and not any(isinstance(answer, list) for answer in answers):
        raise failure
    found: Answers = []
    for batch, answer in zip(batches, answers, strict=True):
        found += answer if isinstance(answer, list) else [failure or InvalidRequest("was not asked")] * len(batch.rows)
    return found
