"""The command line: parse, import the stage lazily, call, say where the result lies."""

import json
import logging
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from distilrec import __version__
from distilrec.config import Config, load_config, preset_names, with_export_settings
from distilrec.errors import DataWarning, DistilRecError
from distilrec.pipeline import STAGES, fill_repository, run_all, run_dir, run_stage

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)

Preset = Annotated[str, typer.Option(help=f"Preset ({', '.join(preset_names())}) or path of a TOML file.")]
Repository = Annotated[Path, typer.Option(help="Triton model repository.")]
Url = Annotated[str, typer.Option(help="Host and port of Triton's gRPC endpoint.")]

_DEFAULT_PRESET = "ml-100k"
_DEFAULT_URL = "127.0.0.1:8001"
_DEFAULT_REPOSITORY = Path("triton_repo")


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
def run(preset: Preset = _DEFAULT_PRESET) -> None:
    """Run all stages.

    What is unchanged is skipped, what was interrupted goes on.

    Example: distilrec run --preset ml-100k
    """
    print(f"export: {run_all(load_config(preset))}")


@app.command()
def demo(preset: Preset = _DEFAULT_PRESET) -> None:
    """Run all stages, serve for a moment, print the table.

    Starts a real tritonserver on free ports, asks it by string ids, judges every hop and stops it.

    Example: distilrec demo --preset smoke
    """
    from distilrec.demo import run_demo

    run_demo(load_config(preset), print)


@app.command()
def data(preset: Preset = _DEFAULT_PRESET) -> None:
    """Read, filter, index and split the interactions.

    Example: distilrec data --preset shop.toml
    """
    _run_one(preset, "data")


@app.command()
def teacher(preset: Preset = _DEFAULT_PRESET) -> None:
    """Train the teacher.

    Example: distilrec teacher --preset ml-100k
    """
    _run_one(preset, "teacher")


@app.command()
def targets(preset: Preset = _DEFAULT_PRESET) -> None:
    """Write the teacher's soft targets.

    Its top items and logits for every training prefix.

    Example: distilrec targets --preset ml-100k
    """
    _run_one(preset, "targets")


@app.command()
def student(
    preset: Preset = _DEFAULT_PRESET,
    undistilled: Annotated[bool, typer.Option("--undistilled", help="Train without the teacher, for comparison.")] = False,
) -> None:
    """Train the student on the soft targets.

    Example: distilrec student --preset ml-100k --undistilled
    """
    _run_one(preset, "student-undistilled" if undistilled else "student")


@app.command()
def export(
    preset: Preset = _DEFAULT_PRESET,
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
def qad(preset: Preset = _DEFAULT_PRESET) -> None:
    """Train the student on under INT8's rounding, and export that.

    Quantisation-aware distillation; `run` does it by itself when INT8 misses the ranking budget.

    Example: distilrec qad --preset ml-100k
    """
    _run_one(preset, "student-qad")
    fill_repository(_run_one(preset, "export-qad"))


@app.command()
def serve(
    repository: Repository = _DEFAULT_REPOSITORY,
    grpc_port: Annotated[int, typer.Option(help="Port of the gRPC endpoint.")] = 8001,
    http_port: Annotated[int, typer.Option(help="Port of the HTTP endpoint.")] = 8000,
    metrics_port: Annotated[int, typer.Option(help="Port of the metrics endpoint.")] = 8002,
) -> None:
    """Start tritonserver on loopback, until Ctrl-C.

    Uses the tritonserver on PATH, else the one of the wheel nvidia-pytriton (extra [server]).

    Example: distilrec serve --repository triton_repo
    """
    from distilrec.serving.server import Ports, TritonServer

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        with TritonServer(repository, Ports(grpc_port, http_port, metrics_port)) as server:
            print(f"ready: gRPC on {server.url}, HTTP on 127.0.0.1:{http_port}; Ctrl-C ends it", flush=True)
            try:
                status = server.wait()
            except KeyboardInterrupt:
                status = server.stop()
                print("stopped", flush=True)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    raise typer.Exit(status)


@app.command()
def recommend(  # noqa: PLR0917 - typer's parameters are options, not positions
    history: Annotated[list[str] | None, typer.Option(help="Item id, oldest first; repeatable. None: popular items.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Item id not to recommend; repeatable.")] = None,
    k: Annotated[int, typer.Option(help="How many items.")] = 10,
    url: Url = _DEFAULT_URL,
    repository: Repository = _DEFAULT_REPOSITORY,
    timeout_s: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask a running server.

    Example: distilrec recommend --history 50 --history 181 --k 5
    """
    from clients import RecommenderClient
    from distilrec.data.vocabulary import FILE_NAME
    from distilrec.versions import version_folder

    path = version_folder(repository) / FILE_NAME
    with RecommenderClient(url, vocabulary=path, timeout_s=timeout_s) as client:
        answer = client.recommend(history or [], k=k, exclude=exclude or [])
        rows = [(item_id, score, client.vocabulary.title(item_id)) for item_id, score in answer]
    if answer.unknown_ids:
        print(f"warning: {len(answer.unknown_ids)} unknown id(s) left out: {', '.join(answer.unknown_ids)}", file=sys.stderr)
    if as_json:
        found = [{"item_id": item_id, "score": score, "title": title} for item_id, score, title in rows]
        print(json.dumps(found, ensure_ascii=False))
        return
    for rank, (item_id, score, title) in enumerate(rows, start=1):
        print(f"{rank:4d}  {score:8.3f}  {item_id:>8}  {title}")


@app.command()
def doctor(url: Url = _DEFAULT_URL) -> None:
    """Say what is installed and what is missing.

    Status 1 if tritonserver cannot be started.

    Example: distilrec doctor
    """
    from distilrec.doctor import examine

    findings = examine(url)
    for finding in findings:
        mark = {True: "ok  ", False: "FAIL", None: "    "}[finding.ok]
        print(f"{mark} {finding.name:20} {finding.detail}")
    raise typer.Exit(int(any(finding.ok is False for finding in findings)))


@app.command("link-tritonserver")
def link_tritonserver() -> None:
    """Make the plain tritonserver command work here.

    Leaves a command of that name in this environment; it starts the server of the wheel nvidia-pytriton.

    Example: distilrec link-tritonserver && tritonserver --model-repository triton_repo
    """
    from distilrec.serving.wheel import write_launcher

    print(f"wrote {write_launcher()}")


def _run_one(preset: str, stage: str) -> Config:
    config = load_config(preset)
    run_stage(config, stage)
    _say_where(config, stage)
    return config


def _say_where(config: Config, stage: str) -> None:
    assert stage in STAGES
    print(f"{stage}: {run_dir(config) / stage}")


if __name__ == "__main__":
    main()
