"""A new version goes live in a running server, or is refused while the former one serves on.

The order of the steps makes this safe. What can be checked without a server is checked first. Then the version is staged and
rehearsed in a server of its own. The live server loads it by a configuration that is sent along with the call. Only when it has
given its golden answers and was watched do the pins in config.pbtxt move. So whenever a promotion is killed, the next start of the
server comes up with the last version that was proven.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from distilrec.config import ExportConfig
from distilrec.core.errors import DistilRecError, ServerError
from distilrec.core.manifest import Manifest, read_manifest
from distilrec.core.specs import MODEL_NAME, Precision
from distilrec.evaluation import ranking_record
from distilrec.evaluation.forgetting import UpdateVerdict, update_verdict
from distilrec.evaluation.ranking_record import load_record, ranking_fault
from distilrec.serving.process.rehearsal_folder import end_interrupted_rehearsal
from distilrec.serving.rollout.checks import check_artefact, check_version
from distilrec.serving.rollout.live import ReportStep, Server, go_live
from distilrec.serving.rollout.live_checks import Limits, WatchResult
from distilrec.serving.rollout.rehearsal import can_rehearse, rehearse
from distilrec.serving.rollout.settling import live_version, recover_live, settle
from distilrec.serving.rollout.staging import stage
from export.artefact import REPORT_FILE, proof_path
from export.repository.journal import Journal, VersionInfo, decide_move, read_journal, write_journal
from export.repository.locks import locked
from export.repository.models import MODELS, ServedModel
from export.repository.versions import config_path, next_number


class PromotionError(ServerError):
    """A version that was not promoted; the message says what was found, and what serves on."""


@dataclass(frozen=True)
class Promotion:
    """A version that serves now."""

    version: int
    former: int
    """The version that served before."""
    watched: WatchResult | None
    """What was seen of the version while it was watched; None when it was not watched."""


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
    models: Sequence[ServedModel] = MODELS,
    report: ReportStep = lambda _: None,
) -> Promotion:
    """Make an export the served version.

    Args:
        artefact: Folder of the export stage.
        repository: The Triton model repository, which already serves a version.
        config: Target, batch size and instances of the new version; its ``repository`` is not read.
        server: Server of the repository; None stages and pins only, for a server that is started later.
        limits: What the version may do while it is watched.
        rehearsed: Whether a server of its own tries the version first; it needs memory for one more instance of each model.
        force: Whether a version that ranks worse than the served one is promoted all the same.
        reason: Why ``force`` was used; an update that its verdict refuses needs one. The journal keeps it.
        models: Models that are promoted together, under one number; a model comes after those that it calls.
        report: Is called with each step that was taken.

    Raises:
        PromotionError: the version was refused; the former one serves on, and only the number of the new one is left.
        RepositoryError: another promotion is at work, or the repository cannot be read or written.
        ManifestError, ParityError, DataError: the artefact is damaged; nothing was touched.
    """
    with locked(repository):
        rollout = _Rollout(repository, server, models, limits or Limits(), report)
        manifest, number = rollout.accept(artefact, config, force=force, reason=reason)
        with rollout.refusing(number), rollout.discarding(number):
            stage(artefact, manifest, repository=repository, config=config, number=number, models=models)
            report(f"version {number} is staged")
            watched = rollout.go_live(number, rehearsed=rehearsed)
        return rollout.pin(number, watched)


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
        rollout = _Rollout(repository, server, models, limits or Limits(watch_s=0), report)
        if not (good := rollout.journal.numbers("good")):
            raise PromotionError(f"{repository}: found no good version but {rollout.former}, expected an earlier one to go back to")
        target = good[-1]
        with rollout.refusing(target):
            text = config_path(repository, MODEL_NAME, target).read_text(encoding="utf-8")
            check_version(repository / MODEL_NAME / str(target), text)
            report(f"version {target} gives its golden answers")
            watched = rollout.go_live(target, rehearsed=False)
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


class _Rollout:
    """The steps that promotion and rollback have in common. The repository's lock is held while one exists.

    Attributes:
        journal: The repository's journal, as it was last written.
        former: Version that serves before the rollout.
    """

    def __init__(
        self, repository: Path, server: Server | None, models: Sequence[ServedModel], limits: Limits, report: ReportStep
    ) -> None:
        self._repository, self._server, self._limits, self._report = repository, server, limits, report
        self._names = [model.name for model in models]
        try:
            end_interrupted_rehearsal(repository)
            self.journal = settle(repository, self._names, server, report)
            self._live = live_version(repository, self._names, server)
        except ServerError as error:
            raise PromotionError(f"nothing was changed: {error}") from error
        (self.former,) = self.journal.numbers("serving")

    def accept(self, artefact: Path, config: ExportConfig, *, force: bool, reason: str) -> tuple[Manifest, int]:
        """Check an artefact (``check``), and announce it; returns its manifest and the number of its version."""
        manifest = self.check(artefact, config, force=force, reason=reason)
        return manifest, self.announce(manifest, forced=reason if force else "")

    def check(self, artefact: Path, config: ExportConfig, *, force: bool, reason: str) -> Manifest:
        """Refuse an artefact that is damaged, or, unless forced, one that ranks worse than the version that clients get now.

        An update is judged by its own verdict: its catalogue and its held-out users are not those of the served version.

        Raises:
            PromotionError: the loss exceeds the ranking budget, or the verdict on an update refuses it.
            ManifestError, ParityError, DataError, RepositoryError: as ``check_artefact``.
        """
        manifest = check_artefact(artefact, config)
        self._report("the artefact is whole and gives its golden answers")
        verdict = update_verdict(json.loads((artefact / REPORT_FILE).read_text(encoding="utf-8")))
        if verdict is not None:
            self._check_update(artefact, verdict, force=force, reason=reason)
            return manifest
        new = load_record(proof_path(artefact, Precision(manifest.metrics["precision"]), ranking_record.FILE_NAME))
        served = load_record(self._repository / MODEL_NAME / str(self._live) / ranking_record.FILE_NAME)
        if new is None or served is None or new.held_out_sha256 != served.held_out_sha256:
            self._report(
                f"warning: its ranking cannot be compared with that of version {self._live}: found"
                + (" no record of it" if new is None or served is None else " records of other users, items or right answers")
            )
        elif fault := ranking_fault(new, served):
            if not force:
                raise PromotionError(f"{artefact} was refused: {fault}. Promote it all the same with --force")
            self._report(f"warning: {fault}; promoted all the same")
        return manifest

    def _check_update(self, artefact: Path, verdict: UpdateVerdict, *, force: bool, reason: str) -> None:
        """Refuse an update that its verdict does not take, unless forced for a reason."""
        if verdict.taken:
            self._report(verdict.reason)
        elif not (force and reason.strip()):
            missing = "a reason is missing: --force --reason WHY" if force else "Promote it all the same with --force --reason WHY"
            raise PromotionError(f"{artefact} was refused: {verdict.reason}. {missing}; the journal keeps the reason")
        else:
            self._report(f"warning: {verdict.reason}; promoted all the same: {reason}")

    def announce(self, manifest: Manifest, *, forced: str) -> int:
        """Note in the journal that an artefact is being staged; returns the number of its version."""
        number = next_number(self._repository)
        version = VersionInfo(
            number=number,
            state="staged",
            artefact=manifest.digest,
            vocabulary_sha256=manifest.metrics["vocabulary_sha256"],
            time=datetime.now(UTC),
            forced=forced,
        )
        self._write(self.journal.put(version))
        return number

    @contextmanager
    def refusing(self, number: int) -> Iterator[None]:
        """Raise PromotionError for what goes wrong with a version within the context."""
        try:
            yield
        except (DistilRecError, OSError) as error:
            raise PromotionError(f"version {number} was refused: {error}\nVersion {self.former} stays pinned.") from error

    @contextmanager
    def discarding(self, number: int) -> Iterator[None]:
        """Note the failure of a version, and remove its files, when the context ends by an error or an interruption."""
        try:
            yield
        except BaseException as error:
            failed = self.journal.mark(number, "failed", str(error) or type(error).__name__)
            with suppress(OSError):  # a full disk: without this note, recovery finds the promotion interrupted
                self._write(failed.model_copy(update={"moving_to": None}))
            with suppress(OSError):
                recover_live(self._repository, self._names, self._server)
            raise

    def _rehearse(self, number: int) -> None:
        """Try a version in a server of its own. A server that is started later refuses to start with a bad version."""
        if self._server is None:
            return
        if not can_rehearse():
            self._report(f"version {number} is not rehearsed: there is no tritonserver on this machine to try it in")
            return
        rehearse(self._repository, self._names, number, self._server.load_timeout_s)
        self._report(f"version {number} answers as it should in a server of its own")

    def go_live(self, number: int, *, rehearsed: bool) -> WatchResult | None:
        """Have the server serve a staged version, and decide for it: from here on, recovery finishes what is interrupted."""
        if rehearsed:
            self._rehearse(number)

        def decide() -> None:
            self.journal = decide_move(self._repository, self._names, self.journal, number)

        if self._server is None:
            decide()
            return None
        return go_live(
            self._server,
            self._repository,
            self._names,
            former=self._live,
            number=number,
            limits=self._limits,
            report=self._report,
            decide=decide,
        )

    def pin(self, number: int, watched: WatchResult | None) -> Promotion:
        """Pin the version that was decided for, and remove what is no longer good."""
        recover_live(self._repository, self._names, self._server)
        self._report(f"version {number} is pinned")
        return Promotion(number, self.former, watched)

    def _write(self, journal: Journal) -> None:
        self.journal = journal
        write_journal(self._repository, journal)
