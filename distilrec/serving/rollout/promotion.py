"""A new version goes live in a running server, or is refused while the former one serves on.

Order is everything. What can be checked without a server is checked first; then the version is staged beside and renamed in, and
rehearsed in a server of its own; the live one loads it by a configuration sent along with the call; and only when it has answered
and was watched do the pins in config.pbtxt move. So whatever is killed, and when, the next start of the server comes up with the
last version that was proven.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from distilrec.config import ExportConfig
from distilrec.core.errors import DistilRecError, ServerError
from distilrec.core.manifest import Manifest
from distilrec.core.specs import MODEL_NAME
from distilrec.serving.process.control import ControlTimeout
from distilrec.serving.rollout import journal as journals
from distilrec.serving.rollout.journal import Journal, VersionInfo, locked
from distilrec.serving.rollout.live import Limits, Observer, Server, Watched, ready_versions, switch
from distilrec.serving.rollout.proving import prove_artefact, prove_version, version_tolerance
from distilrec.serving.rollout.rehearsal import can_rehearse, rehearse
from distilrec.serving.rollout.staging import config_spec, stage, version_config
from export.repository.models import MODELS, ServedModel
from export.repository.versions import config_path

KEPT_GOOD = 3
"""Good versions whose folders are kept to go back to; older ones are retired."""

Report = Callable[[str], None]


class PromotionError(ServerError):
    """A version that was not promoted; the message says what was found, and what serves on."""


@dataclass(frozen=True)
class Promotion:
    """A version that serves now."""

    version: int
    former: int
    """The version that served before."""
    watched: Watched | None
    """None when there was no server to watch."""


def promote(
    artefact: Path,
    repository: Path,
    config: ExportConfig,
    server: Server | None,
    *,
    limits: Limits | None = None,
    rehearsed: bool = True,
    models: Sequence[ServedModel] = MODELS,
    report: Report = lambda _: None,
) -> Promotion:
    """Make an export the served version.

    Args:
        artefact: the export stage's folder.
        repository: the Triton model repository, which already serves a version.
        config: target, batch size and instances of the new version; its ``repository`` is not read.
        server: that serves the repository; None stages and pins only, for a server that is started later.
        limits: what the version may do while it is watched.
        rehearsed: try the version in a server of its own before the live one loads it (``rehearsal``), where this machine has a
            tritonserver; it needs memory for one more instance of each model.
        models: promoted together, with the same number; a model comes after those that it asks.
        report: is told each step that was taken.

    Raises:
        PromotionError: the version was refused; the former one serves on, and nothing is left of the new one but its number.
        RepositoryError: another promotion is at work, or the repository cannot be read or written.
        ManifestError, ParityError, DataError: the artefact is damaged; nothing was touched.
    """
    names = [model.name for model in models]
    with locked(repository):
        journal = journals.recover(repository, names)
        manifest = prove_artefact(artefact)
        report("the artefact is whole and gives its golden answers")
        (former,) = journal.numbers("serving")
        number = journals.next_number(repository)
        journal = journal.put(_staged(number, manifest))
        journals.write_journal(repository, journal)
        try:
            stage(artefact, manifest, repository=repository, config=config, number=number, models=models)
            report(f"version {number} is staged")
            if rehearsed and server is not None:  # a server that is started later refuses to start with a bad version
                _rehearse(server, repository, names, number, report)
            watched = _go_live(server, repository, names, former=former, number=number, limits=limits or Limits(), report=report)
            journal = journal.model_copy(update={"moving_to": number})
            journals.write_journal(repository, journal)
        except BaseException as error:
            _discard(repository, names, journal.mark(number, "failed", str(error) or type(error).__name__))
            if isinstance(error, DistilRecError | OSError):
                raise PromotionError(f"version {number} was refused: {error}\nVersion {former} stays pinned.") from error
            raise
        # The version is proven: from here on, what is interrupted is finished by the next call.
        journals.pin(repository, names, number)
        report(f"version {number} is pinned")
        _finish(repository, names, journal.mark(former, "good").mark(number, "serving"))
    return Promotion(number, former, watched)


def rollback(
    repository: Path,
    server: Server | None,
    *,
    limits: Limits | None = None,
    models: Sequence[ServedModel] = MODELS,
    report: Report = lambda _: None,
) -> Promotion:
    """Go back to the newest good version; the one that is left is retired. Arguments as in ``promote``; watches only if told.

    Raises:
        PromotionError: there is no version to go back to, or it is not what it was; the present one serves on.
        RepositoryError: as in ``promote``.
    """
    names = [model.name for model in models]
    with locked(repository):
        journal = journals.recover(repository, names)
        (present,) = journal.numbers("serving")
        if not (good := journal.numbers("good")):
            raise PromotionError(f"{repository}: found no good version but {present}, expected an earlier one to go back to")
        target = good[-1]
        try:
            folder = repository / MODEL_NAME / str(target)
            text = config_path(repository, MODEL_NAME, target).read_text(encoding="utf-8")
            prove_version(folder, config_spec(text), version_tolerance(folder))
            report(f"version {target} gives its golden answers")
            watched = _go_live(
                server, repository, names, former=present, number=target, limits=limits or Limits(watch_s=0), report=report
            )
            journal = journal.model_copy(update={"moving_to": target})
            journals.write_journal(repository, journal)
        except (DistilRecError, OSError) as error:
            raise PromotionError(f"version {target} was refused: {error}\nVersion {present} stays pinned.") from error
        journals.pin(repository, names, target)
        report(f"version {target} is pinned")
        _finish(repository, names, journal.mark(present, "retired").mark(target, "serving"))
    return Promotion(target, present, watched)


def versions(repository: Path, models: Sequence[ServedModel] = MODELS) -> list[VersionInfo]:
    """All versions a repository has had, oldest first; changes nothing.

    Raises:
        RepositoryError: the journal or a config.pbtxt cannot be read.
    """
    return list(journals.read_journal(repository, [model.name for model in models]).versions)


def recover(repository: Path, models: Sequence[ServedModel] = MODELS) -> None:
    """Finish or undo what an interrupted promotion left; for a start of the server. Raises RepositoryError."""
    with locked(repository):
        journals.recover(repository, [model.name for model in models])


def _staged(number: int, manifest: Manifest) -> VersionInfo:
    sha256 = manifest.metrics["vocabulary_sha256"]
    return VersionInfo(number=number, state="staged", artefact=manifest.digest, vocabulary_sha256=sha256, time=datetime.now(UTC))


def _rehearse(server: Server, repository: Path, names: Sequence[str], number: int, report: Report) -> None:
    ready_versions(server, MODEL_NAME)  # whoever may not change the server learns it before anything is started
    if not can_rehearse():
        report(f"version {number} is not rehearsed: there is no tritonserver on this machine to try it in")
        return
    rehearse(repository, names, number, server.load_timeout_s)
    report(f"version {number} answers as it should in a server of its own")


def _go_live(
    server: Server | None, repository: Path, names: Sequence[str], *, former: int, number: int, limits: Limits, report: Report
) -> Watched | None:
    """Let the server serve ``number``; whatever goes wrong, bring ``former`` back."""
    if server is None:
        return None
    with ExitStack() as stack:
        ready_versions(server, MODEL_NAME)  # whoever may not change the server learns it before anything is loaded

        def go(version: int, limits: Limits) -> Watched | None:
            texts = {name: version_config(repository, name, version) for name in names}
            folder = repository / MODEL_NAME / str(version)
            observer = stack.enter_context(Observer(server, journals.parse_config(texts[MODEL_NAME]).max_batch_size))

            def prove() -> Watched | None:
                report(f"version {version} is loaded")
                requests = observer.check_version(repository, names, version)
                if requests is None:
                    return None
                report(f"version {version} answers as it should")
                return observer.watch(requests, version, version_tolerance(folder), limits) if limits.watch_s else None

            return switch(server, texts, version, prove)

        try:
            return go(number, limits)
        except BaseException as error:
            if isinstance(error, ControlTimeout):
                raise ServerError(f"{error}; it serves version {former} on, but takes no more loads: restart it") from error
            try:
                # Also after a refused load: else Triton keeps the refused configuration for its next plain load,
                # and that load is no longer gated by the warm-up.
                go(former, Limits(watch_s=0))
            except DistilRecError as second:
                raise ServerError(f"{error}\nVersion {former} could not be brought back: {second}\nRestart the server") from error
            if isinstance(error, DistilRecError):
                raise ServerError(f"{error}\nVersion {former} serves on and gives its golden answers.") from error
            raise


def _discard(repository: Path, names: Sequence[str], journal: Journal) -> None:
    """Note a failure and remove what is there of it."""
    journals.write_journal(repository, journal)
    journals.recover(repository, names)


def _finish(repository: Path, names: Sequence[str], journal: Journal) -> None:
    """Retire what is too old to go back to, and remove what is no longer good."""
    for old in journal.numbers("good")[:-KEPT_GOOD]:
        journal = journal.mark(old, "retired")
    journals.write_journal(repository, journal.model_copy(update={"moving_to": None}))
    journals.recover(repository, names)
