"""The command line: each command parses its options, imports its stage, calls it and prints where the result is."""

import errno
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from distilrec import __version__
from distilrec.cli import (
    approval,
    candidate,
    compare,
    drift,
    evaluation,
    generate,
    hub,
    kinds,
    load,
    recommend,
    refresh,
    report,
    serving,
    training,
    update,
)
from distilrec.cli.options import DEFAULT_PRESET, Cold, Force, Preset, Student
from distilrec.config import Config, as_cold, load_config, with_export_settings, with_seed
from distilrec.core.errors import DataWarning, DistilRecError
from distilrec.core.progress import TIME_FORMAT, is_interactive, say
from distilrec.core.ranks import is_first
from distilrec.pipeline.finished import student_verdict, teachers_verdict
from distilrec.pipeline.folders import MIXED_TARGETS, STUDENT_VERDICT, TEACHERS_VERDICT, run_dir
from distilrec.pipeline.stages import fill_repository, run_all, run_stage, stages

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)


def main() -> None:
    """Run the command line; an error of DistilRec or of the disk ends it with one message and status 1, without a traceback."""
    # PyTorch's threads then soon sleep while they wait for each other. Where other programs use the same cores, threads that spin
    # for long take the time of the thread that they wait for. Without spinning, small batches would take 1.7 times as long.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    form = "%(message)s" if is_interactive() else "%(asctime)s %(message)s"
    logging.basicConfig(level=logging.WARNING, format=form, datefmt=TIME_FORMAT, stream=sys.stderr)
    if not is_interactive():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # bars of transformers, which would be one long line in a log
    for package in ("distilrec", "distill", "export"):
        logging.getLogger(package).setLevel(logging.INFO if is_first() else logging.WARNING)
    if not is_first():
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends
    warnings.showwarning = _show_warning
    try:
        app()
    except DistilRecError as error:
        print(f"distilrec: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        # A full disk, a read-only mount or missing rights, at a place that has no better message.
        logging.getLogger(__name__).debug("where it happened", exc_info=True)
        print(f"distilrec: {_describe(error)}", file=sys.stderr)
        sys.exit(1)


def _describe(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        advice = "free some space and run the same command again; it continues where it stopped"
        return f"found no space left on a disk ({error}), expected room for the result; {advice}"
    place = f"{error.filename}: " if error.filename else ""
    advice = "Check the path, its permissions and the free space."
    return f"{place}{error.strerror or error}, expected to read or write here. {advice}"


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, DataWarning):
        say(f"warning: {message}")


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
    seed: Annotated[
        int | None, typer.Option(help="Seed instead of the preset's; makes a run of its own, which is not served.")
    ] = None,
    student: Student = None,
    cold: Cold = False,
    force: Force = False,
) -> None:
    """Run all stages.

    Unchanged stages are skipped, and an interrupted stage continues where it stopped. The student that ranks validation users
    better is exported: the distilled one, or the same one trained without a teacher. With --cold, a tenth of the items is held
    out, so that `evaluate --cold` can judge items that nobody has touched; that run is not served.

    Example: distilrec run --preset ml-100k
    """
    config = with_export_settings(load_config(preset), {"student": student})
    seeded = as_cold(config) if cold else config
    seeded = seeded if seed is None else with_seed(seeded, seed)
    artefact = run_all(seeded, serve=seeded == config, force=force)
    _print_student(seeded)
    print(f"export: {artefact}")
    if seeded == config:
        print(f"serve it: distilrec serve --repository {config.export.repository}")


@app.command()
def demo(preset: Preset = DEFAULT_PRESET, student: Student = None) -> None:
    """Run all stages, serve the student briefly, and print the table.

    Starts a real tritonserver on free ports, requests recommendations by string ids, evaluates all models and stops the server.

    Example: distilrec demo --preset smoke
    """
    from distilrec.cli.demo import run_demo

    run_demo(with_export_settings(load_config(preset), {"student": student}), print)


@app.command()
def data(preset: Preset = DEFAULT_PRESET, force: Force = False) -> None:
    """Read, filter, index and split the interactions.

    Prints what was found, and warns where a choice looks wrong: few users to judge models by, events that nothing selects by,
    repeats in a row, titles that match no item.

    Example: distilrec data --preset shop.toml
    """
    _run_one(preset, "data", force=force)


@app.command()
def text(preset: Preset = DEFAULT_PRESET, force: Force = False) -> None:
    """Embed all item titles, for models that read text.

    Without an embedding model (the extra [text] is not installed, or the section text is off) these models work without titles.

    Example: distilrec text --preset ml-100k
    """
    _run_one(preset, "text", force=force)


@app.command()
def teacher(preset: Preset = DEFAULT_PRESET, force: Force = False) -> None:
    """Train all teachers.

    An assistant that is distilled from other teachers is trained after them and after their soft targets.

    Example: distilrec teacher --preset ml-100k
    """
    _run_some(preset, ("teacher-",), force=force)


@app.command()
def targets(preset: Preset = DEFAULT_PRESET, force: Force = False) -> None:
    """Write the soft targets of all teachers, judge the teachers, and mix their soft targets.

    Soft targets are a teacher's top items and logits for every training prefix. Teachers are judged against the student without a
    teacher, which is trained first.

    Example: distilrec targets --preset ml-100k
    """
    _run_some(preset, ("targets-", "student-undistilled", TEACHERS_VERDICT, MIXED_TARGETS), force=force)


@app.command()
def student(
    preset: Preset = DEFAULT_PRESET,
    undistilled: Annotated[bool, typer.Option("--undistilled", help="Train without soft targets, for comparison.")] = False,
    force: Force = False,
) -> None:
    """Train the student on the soft targets.

    Example: distilrec student --preset ml-100k --undistilled
    """
    _run_one(preset, "student-undistilled" if undistilled else "student", force=force)


@app.command()
def export(
    preset: Preset = DEFAULT_PRESET,
    *,
    student: Student = None,
    target: Annotated[str | None, typer.Option(help="Serving target: python, onnxruntime, tensorrt, ...")] = None,
    instances: Annotated[int | None, typer.Option(help="Number of instances of each model on a CPU.")] = None,
    container: Annotated[
        str | None, typer.Option(help="Release of NVIDIA's container that serves a target on a GPU, for example 26.05.")
    ] = None,
    with_benchmarks: Annotated[
        bool, typer.Option("--with-benchmarks", help="Also serve the teacher, and a model that does no work.")
    ] = False,
    force: Force = False,
) -> None:
    """Export the better student to ONNX in FP32, FP16 and INT8, choose a precision, and fill the Triton repository.

    The distilled student is exported unless the same student trained without a teacher ranks validation users better.
    The export is finished only after its answers were equal to those of the PyTorch model. INT8 or FP16 is served only if it is
    faster on this machine and keeps the ranking; a target on a GPU that is not here serves FP16, unmeasured. The measurements are
    in report.json.

    Example: distilrec export --preset ml-100k --target python
    """
    settings = {"student": student, "target": target, "instances": instances, "container": container}
    config = with_export_settings(load_config(preset), settings)
    run_stage(config, STUDENT_VERDICT)
    _print_student(config)
    run_stage(config, "export", force=force)
    _print_folder(config, "export")
    fill_repository(config, with_benchmarks=with_benchmarks)
    print(f"serve it: distilrec serve --repository {config.export.repository}")


@app.command()
def qad(preset: Preset = DEFAULT_PRESET, force: Force = False) -> None:
    """Train the student further with the rounding of INT8, and export the result.

    This is quantisation-aware distillation. The command `run` does it when INT8 misses the ranking budget.

    Example: distilrec qad --preset ml-100k
    """
    _run_one(preset, "student-qad", force=force)
    fill_repository(_run_one(preset, "export-qad", force=force))


def _run_some(preset: str, prefixes: tuple[str, ...], *, force: bool) -> None:
    """Run the stages whose folders begin with one of ``prefixes``.

    Where an assistant is distilled from other teachers, all teachers and soft targets are made, in the order of the stages.
    """
    config = load_config(preset)
    assistants = any(teacher.learns_from for teacher in config.teachers.values())
    if assistants:
        prefixes = ("teacher-", "targets-", *prefixes)
    for stage in stages(config):
        if stage.startswith(prefixes):
            run_stage(config, stage, force=force)
            _print_folder(config, stage)


def _run_one(preset: str, stage: str, *, force: bool) -> Config:
    config = load_config(preset)
    run_stage(config, stage, force=force)
    _print_folder(config, stage)
    return config


def _print_student(config: Config) -> None:
    print(f"teachers: {teachers_verdict(config)['reason']}")
    print(f"student: {student_verdict(config)['reason']}")


def _print_folder(config: Config, stage: str) -> None:
    print(f"{stage}: {run_dir(config) / stage}")


app.add_typer(generate.app)
app.add_typer(training.app)
app.add_typer(kinds.app)
app.add_typer(evaluation.app)
app.add_typer(report.app)
app.add_typer(serving.app)
app.add_typer(approval.app)
app.add_typer(candidate.app)
app.add_typer(compare.app)
app.add_typer(drift.app)
app.add_typer(refresh.app)
app.add_typer(update.app)
app.add_typer(recommend.app)
app.add_typer(load.app)
app.add_typer(hub.app)
