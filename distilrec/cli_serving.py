"""Commands around a running server; they are part of the one command line (``distilrec/cli.py``)."""

import json
import signal
import sys
from typing import Annotated

import typer

from distilrec.cli_options import DEFAULT_REPOSITORY, DEFAULT_URL, Repository, Url

app = typer.Typer()


@app.command()
def serve(
    repository: Repository = DEFAULT_REPOSITORY,
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
    url: Url = DEFAULT_URL,
    repository: Repository = DEFAULT_REPOSITORY,
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
def doctor(url: Url = DEFAULT_URL) -> None:
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
