"""A version goes live in a running server, or the former version is loaded again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import json_format

from clients.connection import Tls
from distilrec.core.errors import DistilRecError, ServerError
from distilrec.core.specs import MODEL_NAME
from distilrec.serving.process.control import ControlTimeout, ModelControl
from distilrec.serving.process.security import ControlSecret
from distilrec.serving.rollout.checks import version_tolerance
from distilrec.serving.rollout.live_checks import Limits, LiveChecks, WatchResult
from export.repository.versions import parse_config, version_configs

ReportStep = Callable[[str], None]
"""Is called with one sentence for each step that was taken."""


@dataclass(frozen=True)
class Server:
    """A running server, with explicit model control."""

    url: str
    """Host and port of its gRPC endpoint."""
    secret: ControlSecret
    """The secret it was started with."""
    tls: Tls | bool = False
    """How its gRPC endpoint is reached."""
    load_timeout_s: float = 60.0
    """Seconds a load may take, all instances and the warm-up included."""

    @property
    def control(self) -> ModelControl:
        """Control of its models."""
        return ModelControl(self.url, self.secret, self.tls)


def ready_versions(server: Server, model: str) -> set[int]:
    """Versions of a model that answer. Raises ServerError."""
    return {int(entry.version) for entry in server.control.index() if entry.name == model and entry.state == "READY"}


def go_live(
    server: Server,
    repository: Path,
    names: Sequence[str],
    *,
    former: int,
    number: int,
    limits: Limits,
    report: ReportStep,
    decide: Callable[[], None],
) -> WatchResult | None:
    """Load a version, check it and decide for it; whatever goes wrong, load the former version again.

    Args:
        server: Server that gets the version.
        repository: Model repository that it serves.
        names: Models that are loaded, in this order.
        former: Version that serves now.
        number: Version to load.
        limits: What the version may do while it is watched.
        report: Is called with each step that was taken.
        decide: Notes that the version serves from now on.

    Raises:
        ServerError: the version was refused, or the server cannot be controlled; the message says which version serves.
    """
    try:
        watched = _load_and_check(server, repository, names, number, limits=limits, report=report)
        decide()
    except ControlTimeout as error:
        raise ServerError(f"{error}; it serves version {former} on, but takes no more loads: restart it") from error
    except BaseException as error:
        try:
            bring_back(server, repository, names, former)
        except DistilRecError as second:
            raise ServerError(f"{error}\nVersion {former} could not be brought back: {second}\nRestart the server") from error
        if isinstance(error, DistilRecError):
            raise ServerError(f"{error}\nVersion {former} serves on and gives its golden answers.") from error
        raise
    return watched


def bring_back(server: Server, repository: Path, names: Sequence[str], version: int) -> None:
    """Load a version that served before, and check its golden answers. Raises as ``go_live``.

    It is also called after a refused load: otherwise Triton keeps the refused configuration for its next plain load, and that load
    is no longer gated by the warm-up.
    """
    _load_and_check(server, repository, names, version, limits=Limits(watch_s=0), report=lambda _: None)


def _load_and_check(
    server: Server, repository: Path, names: Sequence[str], version: int, *, limits: Limits, report: ReportStep
) -> WatchResult | None:
    """Load all models in their order, each with a configuration that pins ``version``, and check what is live then."""
    configs = version_configs(repository, names, version)
    with LiveChecks(server.url, parse_config(configs[MODEL_NAME]).max_batch_size, server.tls) as checks:
        for model, text in configs.items():
            as_json = str(json_format.MessageToJson(parse_config(text), preserving_proto_field_name=True))
            server.control.load(model, server.load_timeout_s, as_json)
            if version not in (ready := ready_versions(server, model)):
                raise ServerError(f"{model}: versions {sorted(ready)} are ready after the load, expected {version}")
        report(f"version {version} is loaded")
        requests = checks.check_version(repository, names, version)
        if requests is None:
            return None
        report(f"version {version} answers as it should")
        tolerance = version_tolerance(repository / MODEL_NAME / str(version))
        return checks.watch(requests, version, tolerance, limits) if limits.watch_s else None
