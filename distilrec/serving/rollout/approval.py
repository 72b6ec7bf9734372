"""A person approves or rejects a version that waits, and the journal keeps who did and why.

Nobody is authenticated here: who may write the journal may approve.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from distilrec.serving.rollout.live import ReportStep, Server
from distilrec.serving.rollout.live_checks import Limits
from distilrec.serving.rollout.settling import recover_live
from distilrec.serving.rollout.steps import Promotion, PromotionError, Rollout
from export.repository.journal import Review, VersionInfo
from export.repository.locks import locked
from export.repository.models import MODELS, ServedModel


def approve(
    repository: Path,
    version: int,
    server: Server | None,
    *,
    by: str,
    note: str = "",
    limits: Limits | None = None,
    models: Sequence[ServedModel] = MODELS,
    report: ReportStep = lambda _: None,
) -> Promotion:
    """Serve a version that waits for approval: the rest of its promotion.

    Args:
        repository: The Triton model repository.
        version: Number of the version.
        server: As for ``promotion.promote``.
        by: Name of the person who approves.
        note: Reason.
        limits: As for ``promotion.promote``.
        models: As for ``promotion.promote``.
        report: Is called with each step that was taken.

    Raises:
        PromotionError: it does not wait, was compared with another version than serves, or was refused; the former one serves on.
        RepositoryError: as ``promotion.promote``.
    """
    with locked(repository):
        rollout = Rollout(repository, server, models, limits or Limits(), report)
        entry, review = _waiting(rollout, version)
        _check_comparison(rollout, version, review)
        with rollout.refusing(version):
            rollout.check_files(version)
        _decide(rollout, entry, review, "approved", by=by, note=note)
        report(f"version {version} is approved by {by}")
        with rollout.refusing(version), rollout.discarding(version):
            if review.as_candidate:
                return rollout.put_beside(version)
            watched = rollout.go_live(version)
        return rollout.pin(version, watched)


def reject(
    repository: Path, version: int, server: Server | None, *, by: str, note: str = "", models: Sequence[ServedModel] = MODELS
) -> None:
    """Give up a version that waits for approval, and remove its files. Arguments and errors as ``approve``."""
    with locked(repository):
        rollout = Rollout(repository, server, models, Limits(), lambda _: None)
        _decide(rollout, *_waiting(rollout, version), "rejected", by=by, note=note)
        recover_live(repository, [model.name for model in models], server)


def _waiting(rollout: Rollout, version: int) -> tuple[VersionInfo, Review]:
    """Entry and review of a version that waits. Raises PromotionError."""
    entry = rollout.journal.find(version)
    if entry is None or entry.state != "waiting" or entry.review is None:
        found = "no such version" if entry is None else f"version {version} {entry.state}"
        numbers = ", ".join(map(str, rollout.journal.numbers("waiting"))) or "none does"
        raise PromotionError(f"found {found}, expected one that waits for approval ({numbers}). Promote an export first")
    return entry, entry.review


def _check_comparison(rollout: Rollout, version: int, review: Review) -> None:
    """Raise PromotionError where the page compares a version with another one than what clients get now."""
    if review.compared_with != rollout.live:
        raise PromotionError(
            f"version {version} was reviewed against version {review.compared_with}, but version {rollout.live} serves now;"
            " reject it and promote the export again"
        )


def _decide(
    rollout: Rollout, entry: VersionInfo, review: Review, decision: Literal["approved", "rejected"], *, by: str, note: str
) -> None:
    """Write a decision into the journal."""
    if not by.strip():
        raise PromotionError("--by: found no name, expected that of the person who decides")
    now = datetime.now(UTC)
    decided = review.model_copy(update={"decision": decision, "by": by, "note": note, "time": now})
    state = "staged" if decision == "approved" else "rejected"
    reason = "" if decision == "approved" else f"rejected by {by}" + (f": {note}" if note else "")
    rollout.write(rollout.journal.put(entry.model_copy(update={"review": decided, "state": state, "time": now, "reason": reason})))
