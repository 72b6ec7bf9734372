"""The command that reports; it is part of the one command line (``distilrec/cli/app.py``)."""

from pathlib import Path
from typing import Annotated

import typer

from distilrec.cli.options import DEFAULT_PRESET, Preset
from distilrec.config import load_config

app = typer.Typer()


@app.command()
def report(
    preset: Preset = DEFAULT_PRESET,
    benchmarks: Annotated[Path | None, typer.Option(help="Result of pytest --benchmark-only; runs/NAME/benchmark.json.")] = None,
    load: Annotated[Path | None, typer.Option(help="What distilrec load wrote; runs/NAME/load.json.")] = None,
    peers: Annotated[Path | None, typer.Option(help="Measured peers; runs/NAME/peers.json.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for report.html and report.md; runs/NAME/report.")] = None,
) -> None:
    """Write what was kept, gained and paid as one HTML file, and as Markdown.

    Reads the evaluation, the export and what was measured of them; measures nothing itself. What was not measured is said.

    Example: distilrec report --preset ml-100k
    """
    from distilrec.report.collect import Sources
    from distilrec.report.write import write_report

    print(f"report: {write_report(load_config(preset), Sources(benchmarks, load, peers), output)}")
