"""The end of a candidate's trial: it takes the place of the served version, or is withdrawn."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from distilrec.config import Approval
from distilrec.serving.rollout.live import ReportStep, Server
from distilrec.serving.rollout.live_checks import Limits
from distilrec.serving.rollout.steps import Promotion, PromotionError, Rollout
from export.repository.journal import Review
from export.repository.locks import locked
from export.repository.models import MODELS, ServedModel


def adopt(
    repository: Path,
    server: Server | None,
    *,
    approval: Approval = "none",
    by: str = "",
    note: str = "",
    limits: Limits | None = None,
    models: Sequence[ServedModel] = MODELS,
    report: ReportStep = lambda _: None,
) -> Promotion:
    """Make the candidate the served version; clients that still ask for a candidate get the served version.

    Args:
        repository: The Triton model repository.
        server: As for ``promotion.promote``.
        approval: Whether a person has to agree; ``by`` is needed then.
        by: Name of the person who decides, for the journal.
        note: Reason.
        limits: As for ``promotion.promote``.
        models: As for ``promotion.promote``.
        report: Is called with each step that was taken.

    Raises:
        PromotionError: there is no candidate, a name is missing, or it was refused; the former version and the candidate serve on.
    """
    with locked(repository):
        rollout = Rollout(repository, server, models, limits or Limits(), report)
        number = _candidate(rollout)
        if approval == "required" and not by.strip():
            raise PromotionError('found rollout.approval = "required" and no --by, expected the name of the person who decides')
        with rollout.refusing(number):
            rollout.check_files(number)
            if by.strip():
                _note(rollout, number, by, note)
            watched = rollout.go_live(number)
        done = rollout.pin(number, watched)
        rollout.remove_candidate()
        return done


def withdraw(
    repository: Path, server: Server | None, models: Sequence[ServedModel] = MODELS, report: ReportStep = lambda _: None
) -> int:
    """Serve the candidate no longer; clients that ask for it get the served version.

    Returns:
        The number of its version.

    Raises:
        PromotionError: there is no candidate.
    """
    with locked(repository):
        rollout = Rollout(repository, server, models, Limits(), report)
        number = _candidate(rollout)
        rollout.write(rollout.journal.mark(number, "retired"))
        rollout.remove_candidate()
        return number


def _candidate(rollout: Rollout) -> int:
    """Number of the candidate. Raises PromotionError."""
    if not (numbers := rollout.journal.numbers("candidate")):
        raise PromotionError("found no candidate, expected one. Make one: distilrec promote ARTEFACT --candidate")
    return numbers[0]


def _note(rollout: Rollout, number: int, by: str, note: str) -> None:
    """Note in the journal who has decided for the candidate."""
    entry = rollout.journal.find(number)
    assert entry is not None
    review = Review(compared_with=rollout.live, decision="approved", by=by, note=note, time=datetime.now(UTC))
    rollout.write(rollout.journal.put(entry.model_copy(update={"review": review})))
