"""A version that is served next to the served one, under names of its own, for the share of requests that clients send to it.

Requests without a version always go to the newest one that a Triton model has loaded. So the candidate is no second version of the
same models: other clients would get it. Its models have the suffix ``-candidate``, and folders that link to the version's files.
"""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf import text_format

from distilrec.core.errors import ServerError
from distilrec.core.files import write_text
from distilrec.core.specs import CANDIDATE_SUFFIX, MODEL_NAME, candidate_name
from distilrec.serving.rollout.checks import version_tolerance
from distilrec.serving.rollout.live import ReportStep, Server, ready_versions
from distilrec.serving.rollout.live_checks import Limits, LiveChecks, WatchResult
from export.repository.versions import WARMUP, config_path, parse_config, partial_folder

_UPSTREAM = "upstream"
"""Parameter of a front door that sends its requests on to the student within the server."""


def place(repository: Path, names: Sequence[str], version: int) -> None:
    """Make the candidate's folders, which link to a staged version. Former ones are replaced."""
    for name in names:
        target = repository / candidate_name(name)
        # Within the model's folder, where Triton reads only folders whose name is a number; every folder in the root is a model.
        partial = partial_folder(repository / name / CANDIDATE_SUFFIX.strip("-"))
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for linked in (str(version), WARMUP):
            if (repository / name / linked).exists():
                (partial / linked).symlink_to(Path("..") / name / linked, target_is_directory=True)
        write_text(partial / "config.pbtxt", candidate_config(config_path(repository, name, version).read_text(encoding="utf-8")))
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)


def candidate_config(text: str) -> str:
    """A version's config.pbtxt under the candidate's name."""
    config = parse_config(text)
    config.name = candidate_name(config.name)
    if config.parameters[_UPSTREAM].string_value:
        config.parameters[_UPSTREAM].string_value = candidate_name(config.parameters[_UPSTREAM].string_value)
    else:
        del config.parameters[_UPSTREAM]
    return str(text_format.MessageToString(config))


def load(
    server: Server, repository: Path, names: Sequence[str], version: int, *, limits: Limits, report: ReportStep
) -> WatchResult | None:
    """Load the candidate's models, check their golden answers and watch them.

    Raises:
        ServerError: a model was refused, or does not answer as it should. What was loaded is unloaded again.
        ParityError, DataError: it does not give its golden answers; likewise.
    """
    config = parse_config(config_path(repository, MODEL_NAME, version).read_text(encoding="utf-8"))
    with (
        _unloaded_after_failure(server, names),
        LiveChecks(server.url, config.max_batch_size, server.tls, candidate=True) as checks,
    ):
        for name in map(candidate_name, names):
            server.control.load(name, server.load_timeout_s)
            if version not in (ready := ready_versions(server, name)):
                raise ServerError(f"{name}: versions {sorted(ready)} are ready after the load, expected {version}")
        requests = checks.check_version(repository, names, version)
        report(f"version {version} is loaded as candidate")
        if requests is None or not limits.watch_s:
            return None
        return checks.watch(requests, version, version_tolerance(repository / MODEL_NAME / str(version)), limits)


def unload(server: Server | None, names: Sequence[str]) -> None:
    """Unload the candidate's models, as far as the server has them. Raises ServerError."""
    if server is None:
        return
    loaded = {entry.name for entry in server.control.index() if entry.state in {"READY", "LOADING"}}
    for name in reversed([candidate_name(name) for name in names]):
        if name in loaded:
            server.control.unload(name)


@contextlib.contextmanager
def _unloaded_after_failure(server: Server, names: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(ServerError):
            unload(server, names)
        raise
