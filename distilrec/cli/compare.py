"""The command ``compare``, a part of the command line in ``distilrec/cli/app.py``."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilrec.cli.connection import Metadata, TlsCa, TlsCert, TlsKey, UseTls, given_connection, tls_of
from distilrec.cli.options import DEFAULT_URL, Url
from distilrec.core.files import write_text
from distilrec.core.printable import printable
from distilrec.core.specs import MODEL_NAME, candidate_name

if TYPE_CHECKING:
    from clients import RecommenderClient
    from clients.connection import Connection

app = typer.Typer()


@app.command()
def compare(  # noqa: PLR0917 - typer's parameters are options, not positions
    requests: Annotated[Path, typer.Option(help="Recorded requests: a file, or the folder of a Recorder.")],
    url: Url = DEFAULT_URL,
    other_url: Annotated[
        str | None, typer.Option(help="Compare with what this server serves; by default with the candidate.")
    ] = None,
    k: Annotated[int, typer.Option(min=1, help="Length of the answers.")] = 10,
    most: Annotated[int, typer.Option(min=1, help="Newest requests that are asked, at most.")] = 10_000,
    groups: Annotated[Path | None, typer.Option(help="CSV file with item_id and group, for the exposure of groups.")] = None,
    output: Annotated[Path | None, typer.Option(help="File for all figures, JSON.")] = None,
    tls: UseTls = False,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    metadata: Metadata = None,
) -> None:
    """Ask two served versions the same recorded requests, and say what differs.

    Overlap, rank correlation, items that only one version shows, exposure by group, and latency. Where requests were recorded with
    propensities and rewards, also the reward that each version would have brought (self-normalised IPS).

    Example: distilrec compare --requests requests/
    """
    from distilrec.core.recorded import read_requests
    from distilrec.serving import compare as comparing

    recorded, broken = read_requests(requests)
    asked = tls_of(tls_ca, tls_cert, tls_key, wanted=tls)
    with _clients(given_connection(url, asked, metadata), given_connection(other_url or url, asked, metadata)) as (served, other):
        found = comparing.compare(served, other, recorded[-most:], k, comparing.read_groups(groups) if groups else None)
    if broken:
        print(f"warning: {broken} lines of {requests} could not be read")
    print("\n".join(map(printable, comparing.describe(found))))
    if output is not None:
        write_text(output, json.dumps(comparing.as_json(found), indent=2) + "\n")


@contextmanager
def _clients(to: "Connection", then: "Connection") -> "Iterator[tuple[RecommenderClient, RecommenderClient]]":
    """Clients of the served version, and of its candidate or of what the other server serves."""
    from clients import RecommenderClient

    model = candidate_name(MODEL_NAME) if to.url == then.url else MODEL_NAME
    with (
        RecommenderClient(to.url, tls=to.tls, metadata=to.metadata) as served,
        RecommenderClient(then.url, model=model, tls=then.tls, metadata=then.metadata) as other,
    ):
        yield served, other
