"""The commands ``approve`` and ``reject``, a part of the command line in ``distilrec/cli/app.py``."""

from typing import Annotated

import typer

from distilrec.cli.connection import TlsCa, TlsCert, TlsKey, tls_of
from distilrec.cli.options import DEFAULT_REPOSITORY, DEFAULT_URL, Repository, Url
from distilrec.cli.serving import SecretFile, WatchS, print_promotion, say, server_at

app = typer.Typer()

Version = Annotated[int, typer.Argument(help="Number of the version that waits.")]
By = Annotated[str, typer.Option(help="Name of the person who decides; it is kept in the journal.")]
Note = Annotated[str, typer.Option(help="Reason, for the journal.")]
Offline = Annotated[bool, typer.Option("--offline", help="No server runs: only change the repository.")]


@app.command()
def approve(  # noqa: PLR0917 - typer's parameters are options, not positions
    version: Version,
    by: By,
    note: Note = "",
    repository: Repository = DEFAULT_REPOSITORY,
    url: Url = DEFAULT_URL,
    secret_file: SecretFile = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    watch_s: WatchS = 10.0,
    offline: Offline = False,
) -> None:
    """Serve a version that waits for approval.

    Its golden answers are checked again, then it is loaded, checked, watched and pinned, as `promote` does without approval. Name,
    note and time go into the repository's journal.

    Example: distilrec approve 5 --by "A. Lee" --note "more new arrivals, as planned"
    """
    from distilrec.serving.rollout import approval
    from distilrec.serving.rollout.live_checks import Limits

    server = None if offline else server_at(url, secret_file, tls_of(tls_ca, tls_cert, tls_key))
    done = approval.approve(repository, version, server, by=by, note=note, limits=Limits(watch_s=watch_s), report=say)
    print_promotion(done)


@app.command()
def reject(  # noqa: PLR0917
    version: Version,
    by: By,
    note: Note = "",
    repository: Repository = DEFAULT_REPOSITORY,
    url: Url = DEFAULT_URL,
    secret_file: SecretFile = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    offline: Offline = False,
) -> None:
    """Give up a version that waits for approval, and remove its files.

    Example: distilrec reject 5 --by "A. Lee" --note "loses new customers"
    """
    from distilrec.serving.rollout import approval

    server = None if offline else server_at(url, secret_file, tls_of(tls_ca, tls_cert, tls_key))
    approval.reject(repository, version, server, by=by, note=note)
    print(f"version {version} is rejected")
