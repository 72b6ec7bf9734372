"""A new version goes live in a running server, or is refused while the former one serves on.

The order of the steps makes this safe. What can be checked without a server is checked first. Then the version is staged and
rehearsed in a server of its own. The live server loads it by a configuration that is sent along with the call. Only when it has
given its golden answers and was watched do the pins in config.pbtxt move. So whenever a promotion is killed, the next start of the
server comes up with the last version that was proven.
"""

from collections.abc import Sequence
from pathlib import Path

from distilrec.config import Approval, ExportConfig
from distilrec.core.manifest import read_manifest
from distilrec.serving.rollout.live import ReportStep, Server
from distilrec.serving.rollout.live_checks import Limits
from distilrec.serving.rollout.steps import How, Promotion, PromotionError, Rollout
from export.repository.journal import VersionInfo, read_journal
from export.repository.locks import locked
from export.repository.models import MODELS, ServedModel

__all__ = ["Promotion", "PromotionError", "promote", "rollback", "version_of", "versions"]


def promote(
    artefact: Path,
    repository: Path,
    config: ExportConfig,
    server: Server | None,
    *,
    limits: Limits | None = None,
    rehearsed: bool = True,
    force: bool = False,
    reason: str = "",
    approval: Approval = "none",
    as_candidate: bool = False,
    models: Sequence[ServedModel] = MODELS,
    report: ReportStep = lambda _: None,
) -> Promotion:
    """Make an export the served version, or have it wait for approval.

    Args:
        artefact: Folder of the export stage.
        repository: The Triton model repository, which already serves a version.
        config: Target, batch size and instances of the new version; its ``repository`` is not read.
        server: Server of the repository; None stages and pins only, for a server that is started later.
        limits: What the version may do while it is watched.
        rehearsed: Whether a server of its own tries the version first; it needs memory for one more instance of each model.
        force: Whether a version that ranks worse than the served one is promoted all the same.
        reason: Why ``force`` was used; an update that its verdict refuses needs one. The journal keeps it.
        approval: ``required`` stops after the rehearsal: the version waits for ``approval.approve``, in the place of another one.
        as_candidate: Whether the version is served next to the served one instead of replacing it.
        models: Models that are promoted together, under one number; a model comes after those that it calls.
        report: Is called with each step that was taken.

    Raises:
        PromotionError: the version was refused; the former one serves on.
        RepositoryError: another promotion is at work, or the repository cannot be read or written.
        ManifestError, ParityError, DataError: the artefact is damaged; nothing was touched.
    """
    with locked(repository):
        rollout = Rollout(repository, server, models, limits or Limits(), report)
        how = How(rehearsed=rehearsed, force=force, reason=reason, approval=approval, as_candidate=as_candidate)
        return rollout.promote(artefact, config, how)


def rollback(
    repository: Path,
    server: Server | None,
    *,
    limits: Limits | None = None,
    models: Sequence[ServedModel] = MODELS,
    report: ReportStep = lambda _: None,
) -> Promotion:
    """Go back to the newest good version and retire the present one. Arguments as in ``promote``; by default nothing is watched.

    Raises:
        PromotionError: there is no version to go back to, or it is not what it was; the present one serves on.
        RepositoryError: as in ``promote``.
    """
    with locked(repository):
        rollout = Rollout(repository, server, models, limits or Limits(watch_s=0), report)
        if not (good := rollout.journal.numbers("good")):
            raise PromotionError(f"{repository}: found no good version but {rollout.former}, expected an earlier one to go back to")
        target = good[-1]
        with rollout.refusing(target):
            rollout.check_files(target)
            report(f"version {target} gives its golden answers")
            watched = rollout.go_live(target)
        return rollout.pin(target, watched)


def versions(repository: Path, models: Sequence[ServedModel] = MODELS) -> list[VersionInfo]:
    """All versions a repository has had, oldest first; changes nothing.

    Raises:
        RepositoryError: the journal or a config.pbtxt cannot be read.
    """
    return list(read_journal(repository, [model.name for model in models]).versions)


def version_of(artefact: Path, repository: Path, models: Sequence[ServedModel] = MODELS) -> int | None:
    """Number of the pinned version if it is this export; changes nothing.

    Raises:
        RepositoryError: as ``versions``.
        ManifestError: the artefact is not finished.
    """
    digest = read_manifest(artefact).digest
    entries = versions(repository, models)
    return next((entry.number for entry in entries if entry.state == "serving" and entry.artefact == digest), None)
