"""Commands around a running server, as part of the command line (``distilrec/cli/app.py``)."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilrec.cli.connection import TlsCa, TlsCert, TlsKey, tls_of
from distilrec.cli.options import DEFAULT_PRESET, DEFAULT_REPOSITORY, DEFAULT_URL, Preset, Repository, Url
from distilrec.core.errors import ServerError

if TYPE_CHECKING:
    from clients.connection import Tls
    from distilrec.serving.process.security import TlsConfig
    from distilrec.serving.rollout.live import Server

app = typer.Typer()

SecretFile = Annotated[
    Path | None, typer.Option(help="File with the server's control secret; by default the one that the server wrote.")
]

Http = Annotated[bool, typer.Option("--http", help="Answer HTTP on loopback, for curl; a single wrong request can end the server.")]
WithWatchdog = Annotated[bool, typer.Option("--watchdog/--no-watchdog", help="Probe the model, and bring model and server back.")]
MemoryGrowth = Annotated[
    int, typer.Option(min=0, help="Restart a server that keeps so many MB more than after its start; 0 is never.")
]


@app.command()
def serve(  # noqa: PLR0917 - typer's parameters are options, not positions
    repository: Repository = DEFAULT_REPOSITORY,
    grpc_port: Annotated[int, typer.Option(help="Port of the gRPC endpoint.")] = 8001,
    http_port: Annotated[int, typer.Option(help="Port of HTTP, on loopback; used with --http or TLS only.")] = 8000,
    metrics_port: Annotated[int, typer.Option(help="Port of the metrics endpoint, always on loopback.")] = 8002,
    grpc_address: Annotated[str, typer.Option(help="Address on which gRPC listens; 0.0.0.0 is everywhere.")] = "127.0.0.1",
    http: Http = False,
    tls_cert: Annotated[Path | None, typer.Option(help="The server's certificate, PEM: gRPC speaks TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="Serve only clients with a certificate of this authority.")] = None,
    control: Annotated[bool, typer.Option("--control/--no-control", help="Let promote and the watchdog load models.")] = True,
    secret_file: Annotated[Path | None, typer.Option(help="File of the control secret, mode 0600.")] = None,
    watchdog: WithWatchdog = True,
    watchdog_port: Annotated[int | None, typer.Option(help="Port of the watchdog's metrics, on loopback.")] = None,
    memory_growth_mb: MemoryGrowth = 256,
) -> None:
    """Start tritonserver on loopback, until Ctrl-C.

    Uses the tritonserver on PATH, else the one of the wheel nvidia-pytriton (extra [server]). Status 0: stopped in order; 1: the
    server failed; 130: interrupted before it was ready.

    Example: distilrec serve --repository triton_repo
    """
    from distilrec.serving.process.environment import Ports
    from distilrec.serving.serve import ServeSettings, run_server

    settings = ServeSettings(
        repository=repository,
        ports=Ports(grpc_port, http_port, metrics_port),
        grpc_address=grpc_address,
        http=http,
        tls=_tls_config(tls_cert, tls_key, tls_ca),
        control=control,
        secret_file=secret_file,
        watchdog=watchdog,
        watchdog_port=watchdog_port,
        memory_growth_mb=memory_growth_mb,
    )
    raise typer.Exit(run_server(settings, lambda text: print(text, flush=True)))


@app.command()
def promote(  # noqa: PLR0917
    artefact: Annotated[Path, typer.Argument(help="Folder of an export, for example runs/ml-100k/export.")],
    repository: Repository = DEFAULT_REPOSITORY,
    url: Url = DEFAULT_URL,
    preset: Preset = DEFAULT_PRESET,
    secret_file: SecretFile = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    watch_s: Annotated[float, typer.Option(help="Seconds to watch the new version before it is pinned.")] = 10.0,
    no_rehearsal: Annotated[
        bool, typer.Option("--no-rehearsal", help="Do not try it in a server of its own first (saves that server's memory).")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="No server runs: only stage and pin.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Promote it even if it ranks worse than the served version.")] = False,
    reason: Annotated[str, typer.Option(help="Why it is forced; an update that was refused needs it. The journal keeps it.")] = "",
) -> None:
    """Put a new version into a running server.

    Its files are checked, and that it does not rank worse than the served one; an update is judged by its own verdict. It is
    rehearsed in a server of its own, loaded, checked with its golden requests and watched. If anything is wrong, the former version
    serves on.

    Example: distilrec promote runs/ml-100k/export
    """
    from distilrec.config import load_export_config
    from distilrec.serving.rollout import promotion
    from distilrec.serving.rollout.live_checks import Limits

    server = None if offline else server_at(url, secret_file, tls_of(tls_ca, tls_cert, tls_key))
    config, limits, rehearsed = load_export_config(preset), Limits(watch_s=watch_s), not no_rehearsal
    done = promotion.promote(
        artefact, repository, config, server, limits=limits, rehearsed=rehearsed, force=force, reason=reason, report=say
    )
    print(f"version {done.version} serves (before: {done.former})")


@app.command()
def rollback(  # noqa: PLR0917
    repository: Repository = DEFAULT_REPOSITORY,
    url: Url = DEFAULT_URL,
    secret_file: SecretFile = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    offline: Annotated[bool, typer.Option("--offline", help="No server runs: only pin.")] = False,
) -> None:
    """Go back to the last good version.

    Example: distilrec rollback
    """
    from distilrec.serving.rollout import promotion

    server = None if offline else server_at(url, secret_file, tls_of(tls_ca, tls_cert, tls_key))
    done = promotion.rollback(repository, server, report=say)
    print(f"version {done.version} serves (before: {done.former})")


@app.command()
def versions(repository: Repository = DEFAULT_REPOSITORY) -> None:
    """List the versions a repository has had.

    Example: distilrec versions --repository triton_repo
    """
    from distilrec.serving.rollout import promotion

    for version in promotion.versions(repository):
        line = f"{version.number:6d}  {version.state:8}  {version.time:%Y-%m-%d %H:%M}  vocabulary {version.vocabulary_sha256[:12]}"
        line += f"  forced: {version.forced}" if version.forced else ""
        print(line + (f"  {version.reason.splitlines()[0]}" if version.reason else ""))


@app.command()
def doctor(
    url: Url = DEFAULT_URL,
    target: Annotated[
        str | None, typer.Option(help="Report on one serving target instead: driver, CUDA, TensorRT, container, GPU, what fits.")
    ] = None,
    container: Annotated[str | None, typer.Option(help="Release of NVIDIA's container that serves, for example 26.05.")] = None,
    repository: Repository = DEFAULT_REPOSITORY,
) -> None:
    """Report what is installed and what is missing.

    Status 1 if tritonserver cannot be started, or if the target cannot be served from this machine.

    Example: distilrec doctor --target tensorrt
    """
    from distilrec.config import ExportConfig
    from distilrec.serving.doctor import examine, examine_target

    parts = examine_target(target, container or ExportConfig().container, repository) if target else examine(url)
    for part in parts:
        mark = {True: "ok  ", False: "FAIL", None: "    "}[part.ok]
        print(f"{mark} {part.name:20} {part.detail}")
    raise typer.Exit(int(any(part.ok is False for part in parts)))


@app.command("link-tritonserver")
def link_tritonserver() -> None:
    """Make the plain tritonserver command work here.

    Writes a command of that name into this environment; it starts the server of the wheel nvidia-pytriton.

    Example: distilrec link-tritonserver && tritonserver --model-repository triton_repo
    """
    from distilrec.serving.process.wheel import write_launcher

    print(f"wrote {write_launcher()}")


def _tls_config(cert: Path | None, key: Path | None, ca: Path | None) -> "TlsConfig | None":
    from distilrec.serving.process.security import TlsConfig

    if (cert is None) != (key is None) or (ca is not None and cert is None):
        raise ServerError("--tls-cert and --tls-key belong together, and --tls-ca needs both")
    return TlsConfig(cert, key, ca) if cert and key else None


def server_at(url: str, secret_file: Path | None, tls: "Tls | bool") -> "Server":
    """The server that a command controls."""
    from distilrec.serving.process.security import client_secret
    from distilrec.serving.rollout.live import Server

    port = int(url.rpartition(":")[2]) if url.rpartition(":")[2].isdigit() else 0
    return Server(url, client_secret(port, secret_file), tls)


def say(text: str) -> None:
    """Print a step at once."""
    print(text, flush=True)
