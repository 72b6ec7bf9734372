"""Recommendations for a whole file of histories: in parts, with progress, to be interrupted at any time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from clients import ClientError, InvalidRequest, RecommenderClient
from clients.codec import check_k
from distilrec.bulk.parts import Job, Parts, table
from distilrec.bulk.requests import BulkInput, check_suffix, open_input
from distilrec.core.errors import DataError
from distilrec.core.progress import progress

PART_ROWS = 4096
_LISTED = 10


@dataclass(frozen=True)
class Summary:
    """What became of a file."""

    rows: int
    failed: int
    first: list[tuple[Any, str]]
    """Of the first rows that failed the key and the reason."""
    model_versions: list[str]
    """More than one when the model was exchanged meanwhile."""


def recommend_file(
    client: RecommenderClient,
    source: Path,
    output: Path,
    k: int = 10,
    *,
    part_rows: int = PART_ROWS,
    report: Callable[[str], object] = print,
) -> Summary:
    """Recommend ``k`` items after each history of ``source``; the output has one row for each of its rows, in order.

    Called again after an interruption, it goes on with the first part that is missing.

    Args:
        client: asks.
        source: Parquet or JSON lines, see ``bulk_input.open_input``.
        output: the same by its suffix; columns ``user_id`` (or ``row``), ``item_ids``, ``scores``, ``unknown_ids``,
            ``model_version`` and ``error``, which says why a row has no items.
        k: how many items.
        part_rows: rows that are kept at once; those of the last part are lost by an interruption.
        report: is told when earlier parts are used, or cannot be.

    Raises:
        DataError: a file that cannot be read or written, or is not what it should be.
        ClientError: the server failed; what is finished is kept.
    """
    check_suffix(output)
    if output.absolute() == source.absolute():
        raise DataError(f"{output}: found the input and the output to be the same file, expected two")
    found = open_input(source)
    info = client.info()
    check_k(k, info.spec)
    job = Job(found.sha256, k, part_rows, info.model, info.version, info.vocabulary_sha256)
    parts, count = Parts(output), max(1, -(-found.rows // part_rows))
    with parts.locked():
        if changed := parts.begin(job):
            report(f"{parts.folder}: these parts are of another run ({changed}); beginning anew")
        done = min(count, parts.finished())
        if done:
            report(f"{parts.folder}: going on after {min(found.rows, done * part_rows)} of {found.rows} rows")
        _work(client, found, parts, k, part_rows=part_rows, done=done)
        summary = _summary(parts.answers(count), found)
        parts.join(count)
    return summary


def _work(client: RecommenderClient, found: BulkInput, parts: Parts, k: int, *, part_rows: int, done: int) -> None:
    if not found.rows:
        parts.write(0, table(found.key, [], []))
    begin = done * part_rows
    with progress(total=found.rows, initial=min(begin, found.rows), unit="row", desc="recommend") as bar:
        for number, some in enumerate(found.requests(begin, part_rows), start=done):
            try:
                answers = client.recommend_many(some.histories, k, some.exclude, progress=bar.update)
                _check_server(answers)
            except ClientError as error:
                rows = min(number * part_rows, found.rows)
                raise ClientError(
                    f"{error}\n{rows} of {found.rows} rows are done and kept in {parts.folder}; start the same command again,"
                    " and it goes on with them"
                ) from error
            parts.write(number, table(found.key, some.keys, answers))


def _check_server(answers: Sequence[Any]) -> None:
    """Raise what kept the server from answering; a request that is wrong by itself concerns its row only."""
    for answer in answers:
        if isinstance(answer, ClientError) and not isinstance(answer, InvalidRequest):
            raise answer


def _summary(answers: pl.LazyFrame, found: BulkInput) -> Summary:
    failed = answers.filter(pl.col("error").is_not_null())
    first = failed.select(found.key[0], "error").head(_LISTED).collect(engine="streaming").rows()
    versions = answers.select(pl.col("model_version").drop_nulls().unique().sort()).collect(engine="streaming")
    count = failed.select(pl.len()).collect(engine="streaming").item()
    return Summary(found.rows, count, first, versions.to_series().to_list())
