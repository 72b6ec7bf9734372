"""The command ``report``, a part of the command line in ``distilrec/cli/app.py``."""

from pathlib import Path
from typing import Annotated

import typer

from distilrec.cli.options import DEFAULT_PRESET, Preset
from distilrec.config import load_config

app = typer.Typer()


@app.command()
def report(
    preset: Preset = DEFAULT_PRESET,
    benchmarks: Annotated[
        Path | None, typer.Option(help="Result of pytest --benchmark-only. [default: runs/NAME/benchmark.json]")
    ] = None,
    load: Annotated[Path | None, typer.Option(help="Result of distilrec load. [default: runs/NAME/load.json]")] = None,
    peers: Annotated[
        Path | None, typer.Option(help="Result of python -m benchmarks.peers. [default: runs/NAME/peers.json]")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for report.html and report.md. [default: runs/NAME/report]")] = None,
) -> None:
    """Write quality, latency, size and costs of a finished run as one HTML file, and as Markdown.

    Reads the evaluation, the export and their measurements, and measures nothing itself. The report lists what was not measured.

    Example: distilrec report --preset ml-100k
    """
    from distilrec.report.content import MeasurementFiles
    from distilrec.report.write import write_report

    print(f"report: {write_report(load_config(preset), MeasurementFiles(benchmarks, load, peers), output)}")
