"""Recommendations for a whole file of histories, in parts, with progress; it may be interrupted at any time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from clients import ClientError, InvalidRequest, RecommenderClient
from clients.codec import Repeats, Result, check_k
from clients.model_info import ModelInfo
from distilrec.bulk.parts import BulkJob, Parts, result_table
from distilrec.bulk.requests import BulkInput, check_suffix, open_input
from distilrec.core.errors import DataError
from distilrec.core.filters import FilterError, filter_of, pairs_of
from distilrec.core.progress import progress

PART_ROWS = 4096
_LISTED = 10  # rows in a summary


@dataclass(frozen=True)
class BulkSummary:
    """Summary of a bulk run."""

    rows: int
    failed: int
    first: list[tuple[Any, str]]
    """Keys and reasons of the first rows that failed."""
    model_versions: list[str]
    """Versions that answered; more than one if the model was exchanged meanwhile."""


def recommend_file(
    client: RecommenderClient,
    source: Path,
    output: Path,
    k: int = 10,
    *,
    filter: Sequence[str] = (),  # noqa: A002 - what it is
    repeats: Repeats = "never",
    part_rows: int = PART_ROWS,
    report: Callable[[str], object] = print,
) -> BulkSummary:
    """Recommend ``k`` items after each history of a file; called again after an interruption, continue with the first missing part.

    Args:
        client: Client of the served model.
        source: Parquet or JSON lines, see ``requests.open_input``.
        output: Parquet or JSON lines by its suffix, a row for each row of ``source``, in order, with the columns ``user_id`` (or
            ``row``), ``item_ids``, ``scores``, ``unknown_ids``, ``model_version`` and ``error``, why a row has no items.
        k: Number of items.
        filter: Texts such as "category=Nails" that all rows filter by, but for the attributes that a row's own filter names.
        repeats: Whether items of the histories may be recommended.
        part_rows: Rows of a part. An interruption loses the part that is being worked on.
        report: Function that is called with a message when earlier parts are reused or removed.

    Raises:
        DataError: a file cannot be read or written, or has the wrong content.
        ClientError: the server failed, and finished parts are kept; or ``k`` or ``filter`` is wrong (InvalidRequest).
    """
    _check_output(source, output)
    bulk_input, info = open_input(source), client.info()
    _check_wish(k, filter, info)
    options = (list(filter) or None, repeats if repeats != "never" else None)
    job = BulkJob(bulk_input.sha256, k, part_rows, info.model, info.version, info.vocabulary_sha256, *options)
    parts = Parts(output)
    with parts.locked():
        done = _begin(parts, job, bulk_input, report)
        _work(client, bulk_input, parts, job, done=done)
        summary = _summary(parts.answers(count := _part_count(bulk_input, job)), bulk_input)
        parts.join(count)
    return summary


def _check_output(source: Path, output: Path) -> None:
    check_suffix(output)
    if output.absolute() == source.absolute():
        raise DataError(f"{output}: found the input and the output to be the same file, expected two")


def _check_wish(k: int, texts: Sequence[str], info: ModelInfo) -> None:
    """Raise InvalidRequest where every row would fail: by ``k``, or by a filter of all rows that the model does not know."""
    check_k(k, info.spec)
    try:
        info.filters.encode(pairs_of(filter_of(texts)), info.spec.filter_length)
    except FilterError as error:
        raise InvalidRequest(str(error)) from None


def _part_count(source: BulkInput, job: BulkJob) -> int:
    return max(1, -(-source.rows // job.part_rows))


def _begin(parts: Parts, job: BulkJob, source: BulkInput, report: Callable[[str], object]) -> int:
    """Prepare the folder of the parts; returns how many of the job's parts are there already."""
    if changed := parts.begin(job):
        report(f"{parts.folder}: these parts are of another run ({changed}); starting again")
    if done := min(_part_count(source, job), parts.finished()):
        report(f"{parts.folder}: going on after {min(source.rows, done * job.part_rows)} of {source.rows} rows")
    return done


def _work(client: RecommenderClient, source: BulkInput, parts: Parts, job: BulkJob, *, done: int) -> None:
    part_rows, of_all = job.part_rows, filter_of(job.filter or ())
    repeats: Repeats = "never" if job.repeats is None else "allow"
    if not source.rows:
        parts.write(0, result_table(source.key, [], []))
    begin = done * part_rows
    with progress(total=source.rows, initial=min(begin, source.rows), unit="row", desc="recommend") as bar:
        for number, part in enumerate(source.rows_from(begin, part_rows), start=done):
            try:
                filters = [{**of_all, **filter_of(own or ())} or None for own in part.filters]
                results = client.recommend_many(
                    part.histories, job.k, part.exclude, filter=filters, allow=part.allow, repeats=repeats, progress=bar.update
                )
                _check_server(results)
            except ClientError as error:
                rows = min(number * part_rows, source.rows)
                raise ClientError(
                    f"{error}\n{rows} of {source.rows} rows are done and kept in {parts.folder}; start the same command again,"
                    " and it goes on with them"
                ) from error
            parts.write(number, result_table(source.key, part.keys, results))
    source.check_unchanged()


def _check_server(results: Sequence[Result]) -> None:
    """Raise the first error of the server; an invalid request concerns its row only."""
    for result in results:
        if isinstance(result, ClientError) and not isinstance(result, InvalidRequest):
            raise result


def _summary(answers: pl.LazyFrame, source: BulkInput) -> BulkSummary:
    failed = answers.filter(pl.col("error").is_not_null())
    first = failed.select(source.key[0], "error").head(_LISTED).collect(engine="streaming").rows()
    versions = answers.select(pl.col("model_version").drop_nulls().unique().sort()).collect(engine="streaming")
    count = failed.select(pl.len()).collect(engine="streaming").item()
    return BulkSummary(source.rows, count, first, versions.to_series().to_list())
