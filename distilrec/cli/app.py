"""The command line: parse, import the stage lazily, call, say where the result lies."""

import logging
import sys
import warnings
from typing import Annotated, Any

import typer

from distilrec import __version__
from distilrec.cli import evaluation, load, recommend, report, serving, training
from distilrec.cli.options import DEFAULT_PRESET, Preset
from distilrec.config import Config, load_config, with_export_settings, with_seed
from distilrec.core.errors import DataWarning, DistilRecError
from distilrec.pipeline.stages import fill_repository, run_all, run_dir, run_stage, stages

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)


def main() -> None:
    """Entry point: errors of ours end with one message and status 1, not with a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for package in ("distilrec", "distill", "export"):
        logging.getLogger(package).setLevel(logging.INFO)
    warnings.showwarning = _show_warning
    try:
        app()
    except DistilRecError as error:
        print(f"distilrec: {error}", file=sys.stderr)
        sys.exit(1)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, DataWarning):
        print(f"warning: {message}", file=sys.stderr)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Distil a large recommender into one that answers in milliseconds, with proof of what it kept."""


@app.command()
def run(
    preset: Preset = DEFAULT_PRESET,
    seed: Annotated[int | None, typer.Option(help="Another seed than the preset's: a run of its own, not served.")] = None,
) -> None:
    """Run all stages.

    What is unchanged is skipped, what was interrupted goes on.

    Example: distilrec run --preset ml-100k
    """
    config = load_config(preset)
    another = config if seed is None else with_seed(config, seed)
    print(f"export: {run_all(another, serve=another == config)}")


@app.command()
def demo(preset: Preset = DEFAULT_PRESET) -> None:
    """Run all stages, serve for a moment, print the table.

    Starts a real tritonserver on free ports, asks it by string ids, judges every hop and stops it.

    Example: distilrec demo --preset smoke
    """
    from distilrec.cli.demo import run_demo

    run_demo(load_config(preset), print)


@app.command()
def data(preset: Preset = DEFAULT_PRESET) -> None:
    """Read, filter, index and split the interactions.

    Example: distilrec data --preset shop.toml
    """
    _run_one(preset, "data")


@app.command()
def text(preset: Preset = DEFAULT_PRESET) -> None:
    """Embed all item titles, for the models that take text in.

    Nothing to embed with (extra [text] not installed, or section text says off) is fine, too: they go without.

    Example: distilrec text --preset ml-100k
    """
    _run_one(preset, "text")


@app.command()
def teacher(preset: Preset = DEFAULT_PRESET) -> None:
    """Train all teachers.

    One that learns from others (an assistant) comes after them, and after their soft targets.

    Example: distilrec teacher --preset ml-100k
    """
    _run_some(preset, "teacher-")


@app.command()
def targets(preset: Preset = DEFAULT_PRESET) -> None:
    """Write all teachers' soft targets, and their mixture.

    Top items and logits for every training prefix.

    Example: distilrec targets --preset ml-100k
    """
    _run_some(preset, "targets-")


@app.command()
def student(
    preset: Preset = DEFAULT_PRESET,
    undistilled: Annotated[bool, typer.Option("--undistilled", help="Train without the teacher, for comparison.")] = False,
) -> None:
    """Train the student on the soft targets.

    Example: distilrec student --preset ml-100k --undistilled
    """
    _run_one(preset, "student-undistilled" if undistilled else "student")


@app.command()
def export(
    preset: Preset = DEFAULT_PRESET,
    target: Annotated[str | None, typer.Option(help="What serves the student: python, onnxruntime or tensorrt.")] = None,
    instances: Annotated[int | None, typer.Option(help="Instances of each model on a CPU.")] = None,
    with_benchmarks: Annotated[bool, typer.Option("--with-benchmarks", help="Also serve the teacher and an idle model.")] = False,
) -> None:
    """Export to ONNX in FP32, FP16 and INT8, choose one, and fill the Triton repository.

    The export counts only after it has answered as the PyTorch model does. INT8 or FP16 is served only where it is faster on this
    machine and keeps the ranking; report.json holds what was measured.

    Example: distilrec export --preset ml-100k --target python
    """
    config = with_export_settings(load_config(preset), {"target": target, "instances": instances})
    run_stage(config, "export")
    _say_where(config, "export")
    fill_repository(config, with_benchmarks=with_benchmarks)
    print(f"serve it: distilrec serve --repository {config.export.repository}")


@app.command()
def qad(preset: Preset = DEFAULT_PRESET) -> None:
    """Train the student on under INT8's rounding, and export that.

    Quantisation-aware distillation; `run` does it by itself when INT8 misses the ranking budget.

    Example: distilrec qad --preset ml-100k
    """
    _run_one(preset, "student-qad")
    fill_repository(_run_one(preset, "export-qad"))


def _run_some(preset: str, prefix: str) -> None:
    """Run the stages whose folders begin so; where an assistant learns from others, their soft targets come in between."""
    config = load_config(preset)
    assistants = any(teacher.learns_from for teacher in config.teachers.values())
    wanted = ("teacher-", "targets-") if assistants else (prefix,)
    for stage in stages(config):
        if stage.startswith(wanted):
            run_stage(config, stage)
            _say_where(config, stage)


def _run_one(preset: str, stage: str) -> Config:
    config = load_config(preset)
    run_stage(config, stage)
    _say_where(config, stage)
    return config


def _say_where(config: Config, stage: str) -> None:
    print(f"{stage}: {run_dir(config) / stage}")


app.add_typer(training.app)
app.add_typer(evaluation.app)
app.add_typer(report.app)
app.add_typer(serving.app)
app.add_typer(recommend.app)
app.add_typer(load.app)
