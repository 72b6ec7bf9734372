"""The command ``update``, a part of the command line in ``distilrec/cli/app.py``."""

from pathlib import Path
from typing import Annotated

import typer

from distilrec.cli.options import DEFAULT_PRESET, Preset
from distilrec.cli.serving import say
from distilrec.config import load_config

app = typer.Typer()


@app.command()
def update(
    interactions: Annotated[
        Path, typer.Option(help="Events since the training or the last update: .csv, .tsv, .parquet or a folder of them.")
    ],
    preset: Preset = DEFAULT_PRESET,
) -> None:
    """Let the student of a finished run learn from new events, and judge what it has learned and forgotten.

    It begins from yesterday's weights; new items get a row. It learns from the new events and from a replay of earlier ones, on
    which yesterday's student is its teacher. The time that it takes follows the new events, not the history. The result is exported
    and proven; `promote` takes it only if it is not worse on the newest events and has not forgotten more than the budget. After an
    interruption the same command continues, and with the same file it changes nothing.

    Example: distilrec update --preset shop.toml --interactions yesterday.parquet
    """
    from distilrec.pipeline import update as pipeline

    config = load_config(preset)
    artefact = pipeline.update(config, interactions, report=say)
    print(f"verdict: {pipeline.verdict_on(artefact)}")
    print(f"export: {artefact}")
    print(f"serve it: distilrec promote {artefact}")


@app.command("demo-update")
def demo_update() -> None:
    """Update MovieLens-100K in blocks of time, and promote into a running server under load.

    Trains a quick student on the first eight of ten blocks, starts a real tritonserver on free ports, and lets the student learn
    from each further block while requests go on. Status 1 if a request fails.

    Example: distilrec demo-update
    """
    from distilrec.cli.demo_update import run_demo_update

    run_demo_update(say)
