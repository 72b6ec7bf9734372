"""The commands ``adopt`` and ``withdraw``, a part of the command line in ``distilrec/cli/app.py``."""

from typing import Annotated

import typer

from distilrec.cli.approval import Note, Offline
from distilrec.cli.connection import TlsCa, TlsCert, TlsKey, tls_of
from distilrec.cli.options import DEFAULT_PRESET, DEFAULT_REPOSITORY, DEFAULT_URL, Preset, Repository, Url
from distilrec.cli.serving import SecretFile, WatchS, print_promotion, say, server_at

app = typer.Typer()


@app.command()
def adopt(  # noqa: PLR0917 - typer's parameters are options, not positions
    repository: Repository = DEFAULT_REPOSITORY,
    url: Url = DEFAULT_URL,
    preset: Preset = DEFAULT_PRESET,
    by: Annotated[str, typer.Option(help='Name of the person who decides; needed with rollout.approval = "required".')] = "",
    note: Note = "",
    secret_file: SecretFile = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    watch_s: WatchS = 10.0,
    offline: Offline = False,
) -> None:
    """Make the candidate the served version.

    It is loaded, checked, watched and pinned as by `promote`. Clients that split requests then get it for all of them.

    Example: distilrec adopt --by "A. Lee" --note "7 % more clicks in two weeks"
    """
    from distilrec.config import load_serving_config
    from distilrec.serving.rollout import trial
    from distilrec.serving.rollout.live_checks import Limits

    approval = load_serving_config(preset).rollout.approval
    server = None if offline else server_at(url, secret_file, tls_of(tls_ca, tls_cert, tls_key))
    done = trial.adopt(repository, server, approval=approval, by=by, note=note, limits=Limits(watch_s=watch_s), report=say)
    print_promotion(done)


@app.command()
def withdraw(  # noqa: PLR0917
    repository: Repository = DEFAULT_REPOSITORY,
    url: Url = DEFAULT_URL,
    secret_file: SecretFile = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    offline: Offline = False,
) -> None:
    """Serve the candidate no longer. Clients that split requests then get the served version for all of them.

    Example: distilrec withdraw
    """
    from distilrec.serving.rollout import trial

    server = None if offline else server_at(url, secret_file, tls_of(tls_ca, tls_cert, tls_key))
    print(f"version {trial.withdraw(repository, server, report=say)} is withdrawn")
