"""The command ``recommend``, which asks a running server."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilrec.cli.connection import Metadata, TlsCa, TlsCert, TlsKey, UseTls, given_connection, tls_of
from distilrec.cli.options import DEFAULT_URL, Url
from distilrec.cli.values import SeveralValues
from distilrec.core.errors import MissingExtraError
from distilrec.core.filters import filter_of
from distilrec.core.printable import printable

if TYPE_CHECKING:
    from clients import Recommendations, RecommenderClient
    from clients.codec import Repeats

app = typer.Typer()


@app.command(cls=SeveralValues)
def recommend(  # noqa: PLR0917 - typer's parameters are options, not positions
    history: Annotated[list[str] | None, typer.Option(help="Ids or titles, oldest first. None: the most popular items.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Ids or titles of items not to recommend.")] = None,
    k: Annotated[int, typer.Option(help="How many items.")] = 10,
    wanted: Annotated[list[str] | None, typer.Option("--filter", help="Values that items must have: category=Nails.")] = None,
    allow: Annotated[list[str] | None, typer.Option(help="Ids or titles of the only items to recommend.")] = None,
    repeats: Annotated[bool, typer.Option("--repeats", help="Let items of the history be recommended again.")] = False,
    similar: Annotated[str | None, typer.Option(help="Id or title: items like this one, without a history.")] = None,
    source: Annotated[Path | None, typer.Option("--input", help="File of histories, .parquet or .jsonl.")] = None,
    output: Annotated[Path | None, typer.Option(help="File for the recommendations, .parquet or .jsonl.")] = None,
    url: Url = DEFAULT_URL,
    vocabulary: Annotated[Path | None, typer.Option(help="vocabulary.json; by default the server hands it over.")] = None,
    timeout_s: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    tls: UseTls = False,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    metadata: Metadata = None,
) -> None:
    """Ask a running server, for one history or for a whole file.

    --history, --exclude, --allow and --filter take several values. A file has a column `history` (lists of item ids) and may have
    `user_id`, `exclude`, `allow` and `filter` (lists of "attribute=value"); after an interruption the same command continues.
    Status 1 if a row failed: column `error` of the output says why.

    Example: distilrec recommend --history "Toy Story" "GoldenEye" --filter genre=Comedy genre=Action --k 5

    Example: distilrec recommend --input users.parquet --output recs.parquet
    """
    from clients import RecommenderClient

    asked = {"history": history or [], "exclude": exclude or [], "allow": allow or [], "similar": [similar] if similar else []}
    _check_options(asked, source, output, repeats=repeats, as_json=as_json)
    to = given_connection(url, tls_of(tls_ca, tls_cert, tls_key, wanted=tls), metadata)
    with RecommenderClient(to.url, vocabulary=vocabulary, timeout_s=timeout_s, tls=to.tls, metadata=to.metadata) as client:
        if source is not None and output is not None:
            raise typer.Exit(_recommend_file(client, source, output, k, wanted or [], repeats=repeats))
        _print(_recommend(client, asked, k, filter_of(wanted or ()), repeats=repeats), k, as_json=as_json)


def _check_options(asked: dict[str, list[str]], source: Path | None, output: Path | None, *, repeats: bool, as_json: bool) -> None:
    """Raise InvalidRequest for options that do not go together; ``asked`` has items by the name of their option."""
    from clients import InvalidRequest

    if (source is None) != (output is None) or (source is not None and (any(asked.values()) or as_json)):
        raise InvalidRequest(
            "--input and --output belong together, and go with neither --history, --exclude, --allow, --similar nor --json"
        )
    if asked["similar"] and (asked["history"] or repeats):
        raise InvalidRequest("found --similar with --history or --repeats, expected it without: it asks for items like one item")


def _recommend(
    client: "RecommenderClient", asked: dict[str, list[str]], k: int, wanted: dict[str, list[str]], *, repeats: bool
) -> "Recommendations":
    """The answer to what was asked, as ids or titles of items by the name of their option."""
    from clients.lookup import resolve

    if any(asked.values()):
        known = client.vocabulary()
        asked = {name: resolve(items, known) for name, items in asked.items()}
    allow = asked["allow"] or None
    if asked["similar"]:
        return client.similar(asked["similar"][0], k, asked["exclude"], filter=wanted, allow=allow)
    how: Repeats = "allow" if repeats else "never"
    return client.recommend(asked["history"], k, asked["exclude"], filter=wanted, allow=allow, repeats=how)


def _print(answer: "Recommendations", k: int, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_as_json(answer), ensure_ascii=False))
        return
    print_table(answer)
    if answer.missing:
        print(f"{answer.missing} of {k} items are missing: no more are left by what was asked for", file=sys.stderr)


def print_table(answer: "Recommendations") -> None:
    """Print rank, score, id and title of each item; ids and titles come from the server and control no terminal."""
    ids = [printable(item_id) for item_id in answer.ids]
    width = max(map(len, ids), default=0)
    for rank, (item_id, score, title) in enumerate(zip(ids, answer.scores, answer.titles, strict=True), start=1):
        print(f"{rank:4d}  {score:8.3f}  {item_id:>{width}}  {printable(title)}")


def _as_json(answer: "Recommendations") -> dict[str, object]:
    rows = zip(answer, answer.titles, strict=True)
    return {
        "items": [{"item_id": item_id, "score": score, "title": title} for (item_id, score), title in rows],
        "missing": answer.missing,
        "unknown_ids": list(answer.unknown_ids),
        "model_version": answer.model_version,
        "latency_ms": round(answer.latency_ms, 3),
    }


def _recommend_file(client: "RecommenderClient", source: Path, output: Path, k: int, wanted: list[str], *, repeats: bool) -> int:
    """Returns the exit status."""
    try:
        from distilrec.bulk.run import recommend_file
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "polars", "bulk") from error
    how: Repeats = "allow" if repeats else "never"
    done = recommend_file(client, source, output, k, filter=wanted, repeats=how, report=lambda text: print(text, file=sys.stderr))
    for key, reason in done.first:
        print(f"failed: {printable(str(key))}: {printable(str(reason))}", file=sys.stderr)
    if done.failed > len(done.first):
        print(f"failed: {done.failed - len(done.first)} more; column 'error' of {output} has all reasons", file=sys.stderr)
    if len(done.model_versions) > 1:
        versions = ", ".join(done.model_versions)
        print(
            f"warning: the model was exchanged meanwhile; versions {versions} answered, see column 'model_version'", file=sys.stderr
        )
    print(f"{output}: {done.rows} rows, {done.failed} of them failed")
    return int(done.failed > 0)
