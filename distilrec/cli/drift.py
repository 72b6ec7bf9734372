"""The command ``drift``, a part of the command line in ``distilrec/cli/app.py``."""

from pathlib import Path
from typing import Annotated

import typer

from distilrec.cli.options import DEFAULT_PRESET, Preset
from distilrec.config import load_config

app = typer.Typer()


@app.command()
def drift(
    requests: Annotated[Path, typer.Option(help="Recorded requests: a file, or the folder of a Recorder.")],
    preset: Preset = DEFAULT_PRESET,
    most: Annotated[int, typer.Option(min=1, help="Newest requests that count, at most.")] = 20_000,
    output: Annotated[Path | None, typer.Option(help="File for the figures; by default drift.json in the repository.")] = None,
) -> None:
    """Say how far live requests have moved away from the training: unknown ids, popularity, history lengths.

    The figures become metrics of the watchdog, and a part of the page that is reviewed before a version is approved. Status 0 with
    drift, too: it is a reason to update, not to stop.

    Example: distilrec drift --preset shop.toml --requests requests/
    """
    from distilrec.pipeline import drift as pipeline
    from export.repository.versions import DRIFT_FILE

    config = load_config(preset)
    found, broken = pipeline.measure(config, requests, most)
    if broken:
        print(f"warning: {broken} lines of {requests} could not be read")
    print(found.reason)
    print(f"head items: {found.head_share:.1%} of live histories, {found.training_head_share:.1%} of the training")
    print(f"history lengths: median {found.median_length:g} live, {found.training_median_length:g} in training")
    print(f"requests without a history: {found.empty_share:.1%}")
    target = output or config.export.repository / DRIFT_FILE
    pipeline.write(found, target)
    print(f"drift: {target}")
