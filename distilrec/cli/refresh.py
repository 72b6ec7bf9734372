"""The command ``refresh``, a part of the command line in ``distilrec/cli/app.py``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilrec.cli.connection import TlsCa, TlsCert, TlsKey, tls_of
from distilrec.cli.options import DEFAULT_PRESET, DEFAULT_URL, Preset, Url
from distilrec.cli.serving import NoRehearsal, SecretFile, WatchS, print_promotion, say, server_at
from distilrec.config import Config, load_config

if TYPE_CHECKING:
    from distilrec.serving.rollout.live import Server

app = typer.Typer()


@app.command()
def refresh(  # noqa: PLR0917 - typer's parameters are options, not positions
    items: Annotated[Path, typer.Option(help="All items as they are now: .csv, .tsv or .parquet, with the run's columns.")],
    preset: Preset = DEFAULT_PRESET,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    url: Url = DEFAULT_URL,
    secret_file: SecretFile = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    watch_s: WatchS = 10.0,
    no_rehearsal: NoRehearsal = False,
    offline: Annotated[bool, typer.Option("--offline", help="No server runs: only stage and pin.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Do it even if most items are retired.")] = False,
) -> None:
    """Bring new, changed and retired items into a finished run and its server, without training.

    New items get vectors from their content, retired ones (those that the list does not hold) are never recommended again, and
    all others keep their index and their scores. The result is exported in all precisions, proven and promoted, as `promote` does.
    After an interruption the same command continues; with the same list it changes nothing.

    Example: distilrec refresh --items products.parquet --preset shop.toml
    """
    from distilrec.pipeline import refresh as pipeline

    config = load_config(preset)
    if dry_run:
        print("\n".join(pipeline.describe(pipeline.plan_refresh(config, items))))
        return
    server = None if offline else server_at(url, secret_file, tls_of(tls_ca, tls_cert, tls_key))
    artefact = pipeline.refresh(config, items, force=force, report=say)
    _promote(artefact, config, server, watch_s=watch_s, rehearsed=not no_rehearsal)


def _promote(artefact: Path, config: Config, server: "Server | None", *, watch_s: float, rehearsed: bool) -> None:
    """Make an artefact the served version, unless it is."""
    from distilrec.serving.rollout import promotion
    from distilrec.serving.rollout.live_checks import Limits

    repository, limits = config.export.repository, Limits(watch_s=watch_s)
    if (served := promotion.version_of(artefact, repository)) is not None:
        print(f"version {served} serves it already")
        return
    done = promotion.promote(
        artefact,
        repository,
        config.export,
        server,
        limits=limits,
        rehearsed=rehearsed,
        approval=config.rollout.approval,
        report=say,
    )
    print_promotion(done)
