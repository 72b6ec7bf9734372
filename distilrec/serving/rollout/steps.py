"""The steps that promotion, rollback, approval and candidates have in common."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from distilrec.config import Approval, ExportConfig
from distilrec.core.errors import DistilRecError, ServerError
from distilrec.core.manifest import Manifest, read_manifest
from distilrec.core.specs import MODEL_NAME
from distilrec.evaluation import ranking_record
from distilrec.evaluation.forgetting import UpdateVerdict, update_verdict
from distilrec.evaluation.ranking_record import load_record, ranking_fault
from distilrec.serving.process.rehearsal_folder import end_interrupted_rehearsal
from distilrec.serving.rollout import candidate
from distilrec.serving.rollout.checks import check_artefact, check_version
from distilrec.serving.rollout.live import ReportStep, Server, go_live
from distilrec.serving.rollout.live_checks import Limits, WatchResult
from distilrec.serving.rollout.rehearsal import can_rehearse, rehearse
from distilrec.serving.rollout.review import Staged, write_review
from distilrec.serving.rollout.settling import live_version, recover_live, settle
from distilrec.serving.rollout.staging import stage
from export.artefact import REPORT_FILE, proof_path
from export.repository.journal import Journal, Review, VersionInfo, decide_move, load_journal, write_journal
from export.repository.models import ServedModel
from export.repository.versions import config_path, next_number, review_path


class PromotionError(ServerError):
    """A version that was not promoted; the message says what was found, and what serves on."""


@dataclass(frozen=True)
class Promotion:
    """A version that serves now, or waits for approval."""

    version: int
    former: int
    """The version that served before."""
    watched: WatchResult | None
    """What was seen of the version while it was watched; None when it was not watched."""
    review: Path | None = None
    """The page to review, where the version waits for approval; the former one serves on."""
    candidate: bool = False
    """Whether the version is served next to the former one, which serves on."""


@dataclass(frozen=True)
class How:
    """How an export is promoted; as the arguments of ``promotion.promote``."""

    rehearsed: bool
    force: bool
    reason: str
    approval: Approval
    as_candidate: bool


class Rollout:
    """The steps that promotion and rollback have in common. The repository's lock is held while one exists.

    Attributes:
        journal: The repository's journal, as it was last written.
        former: Version that is pinned before the rollout.
        live: Version that clients get before the rollout.
    """

    def __init__(
        self, repository: Path, server: Server | None, models: Sequence[ServedModel], limits: Limits, report: ReportStep
    ) -> None:
        self._repository, self._server, self._limits, self._report = repository, server, limits, report
        self._models, self._names = models, [model.name for model in models]
        try:
            end_interrupted_rehearsal(repository)
            if not load_journal(repository).numbers("candidate"):
                candidate.unload(server, self._names)  # what a killed command has left in the server
            self.journal = settle(repository, self._names, server, report)
            self.live = live_version(repository, self._names, server)
        except ServerError as error:
            raise PromotionError(f"nothing was changed: {error}") from error
        (self.former,) = self.journal.numbers("serving")

    def promote(self, artefact: Path, config: ExportConfig, how: How) -> Promotion:
        """Make an export the served version, or the candidate; as the function."""
        if how.approval == "required" and (waiting := self.waiting_version_of(artefact, as_candidate=how.as_candidate)) is not None:
            return waiting
        if how.as_candidate and (others := self.journal.numbers("candidate")):
            raise PromotionError(
                f"found version {others[0]} as the candidate, expected none. Take it (distilrec adopt), or distilrec withdraw"
            )
        manifest = self.check(artefact, config, how)
        number = self.announce(manifest, forced=how.reason if how.force else "")
        with self.refusing(number), self.discarding(number):
            stage(artefact, manifest, repository=self._repository, config=config, number=number, models=self._models)
            self._report(f"version {number} is staged")
            if how.rehearsed:
                self._rehearse(number)
            if how.approval == "required":
                return self.hold(number, artefact, manifest, as_candidate=how.as_candidate)
            if how.as_candidate:
                return self.put_beside(number)
            watched = self.go_live(number)
        return self.pin(number, watched)

    def check(self, artefact: Path, config: ExportConfig, how: How) -> Manifest:
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
            self._check_update(artefact, verdict, how)
            return manifest
        new = load_record(proof_path(artefact, manifest, ranking_record.FILE_NAME))
        served = load_record(self._repository / MODEL_NAME / str(self.live) / ranking_record.FILE_NAME)
        if new is None or served is None or new.held_out_sha256 != served.held_out_sha256:
            self._report(
                f"warning: its ranking cannot be compared with that of version {self.live}: found"
                + (" no record of it" if new is None or served is None else " records of other users, items or right answers")
            )
        elif fault := ranking_fault(new, served):
            if not how.force:
                raise PromotionError(f"{artefact} was refused: {fault}. Promote it all the same with --force")
            self._report(f"warning: {fault}; promoted all the same")
        return manifest

    def _check_update(self, artefact: Path, verdict: UpdateVerdict, how: How) -> None:
        """Refuse an update that its verdict does not take, unless forced for a reason."""
        if verdict.taken:
            self._report(verdict.reason)
        elif not (how.force and how.reason.strip()):
            missing = "a reason is missing" if how.force else "Promote it all the same"
            raise PromotionError(f"{artefact} was refused: {verdict.reason}. {missing}: --force --reason WHY; the journal keeps it")
        else:
            self._report(f"warning: {verdict.reason}; promoted all the same: {how.reason}")

    def check_files(self, number: int) -> None:
        """Check a version that lies in the repository already. Raises as ``check_version``."""
        text = config_path(self._repository, MODEL_NAME, number).read_text(encoding="utf-8")
        check_version(self._repository / MODEL_NAME / str(number), text)

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
        self.write(self.journal.put(version))
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
                self.write(failed.model_copy(update={"moving_to": None}))
            with suppress(OSError):
                recover_live(self._repository, self._names, self._server)
            raise

    def waiting_version_of(self, artefact: Path, *, as_candidate: bool) -> Promotion | None:
        """The version of this export that waits for approval to replace what serves now; None where there is none."""
        digest = read_manifest(artefact).digest
        for entry in self.journal.versions:
            asked = Review(compared_with=self.live, as_candidate=as_candidate)
            if entry.state == "waiting" and entry.artefact == digest and entry.review == asked:
                self._report(f"version {entry.number} of this export waits for approval already")
                return Promotion(entry.number, self.former, None, review_path(self._repository, entry.number))
        return None

    def hold(self, number: int, artefact: Path, manifest: Manifest, *, as_candidate: bool) -> Promotion:
        """Have a staged version wait for approval, with a page to review; an earlier one that waits is rejected."""
        page = write_review(Staged(artefact, manifest, self._repository, number, self.live, as_candidate))
        journal = self.journal
        for other in journal.numbers("waiting"):
            journal = journal.mark(other, "rejected", f"version {number} took its place")
        waiting = journal.mark(number, "waiting").find(number)
        assert waiting is not None
        review = Review(compared_with=self.live, as_candidate=as_candidate)
        self.write(journal.put(waiting.model_copy(update={"review": review})))
        recover_live(self._repository, self._names, self._server)
        self._report(f"version {number} waits for approval")
        return Promotion(number, self.former, None, page)

    def _rehearse(self, number: int) -> None:
        """Try a version in a server of its own. A server that is started later refuses to start with a bad version."""
        if self._server is None:
            return
        if not can_rehearse():
            self._report(f"version {number} is not rehearsed: there is no tritonserver on this machine to try it in")
            return
        rehearse(self._repository, self._names, number, self._server.load_timeout_s)
        self._report(f"version {number} answers as it should in a server of its own")

    def go_live(self, number: int) -> WatchResult | None:
        """Have the server serve a staged version, and decide for it: from here on, recovery finishes what is interrupted."""

        def decide() -> None:
            self.journal = decide_move(self._repository, self._names, self.journal, number)

        if self._server is None:
            decide()
            return None
        return go_live(
            self._server,
            self._repository,
            self._names,
            former=self.live,
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

    def put_beside(self, number: int) -> Promotion:
        """Serve a staged version next to the served one, as the candidate."""
        watched = None
        candidate.place(self._repository, self._names, number)
        if self._server is not None:
            watched = candidate.load(self._server, self._repository, self._names, number, limits=self._limits, report=self._report)
        self.write(self.journal.mark(number, "candidate"))
        self._report(f"version {number} is served next to version {self.live}")
        return Promotion(number, self.former, watched, candidate=True)

    def remove_candidate(self) -> None:
        """Unload the candidate's models, and remove its folders and what is no longer good."""
        candidate.unload(self._server, self._names)
        self.journal = recover_live(self._repository, self._names, self._server)

    def write(self, journal: Journal) -> None:
        """Replace the journal."""
        self.journal = journal
        write_journal(self._repository, journal)
