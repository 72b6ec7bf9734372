"""Verdicts on what ships: which of the two students, and in which precision. One rule: the first candidate without a fault."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from distilrec.config import StudentName
from distilrec.core.specs import Head, Precision
from distilrec.evaluation.bootstrap import LEVEL, Difference
from distilrec.evaluation.contract import Agreement

MAX_NDCG_LOSS = 0.005
"""Largest share of the reference's NDCG@10 that may be lost."""

MIN_OVERLAP_AT_10 = 0.95
"""Smallest mean share of the reference's first 10 items that must be kept."""

MIN_HEAD_OVERLAP_AT_10 = 0.97
"""Smallest mean share of the exhaustive FP32 head's first 10 items that an approximate head must keep."""

MAX_LATENCY_RATIO = 0.95
"""A precision is faster if it needs at most this share of the other one's time; repeated measurements differ by smaller gains."""

_LEVEL = f"{LEVEL:.0%}".replace("%", " %")

Choice = TypeVar("Choice", bound=str)

_TITLES: dict[StudentName, str] = {
    "distilled": "the distilled student",
    "undistilled": "the undistilled student (the same model, trained without a teacher)",
}


@dataclass(frozen=True)
class Candidate(Generic[Choice]):
    """Something that may ship."""

    choice: Choice
    title: str
    """What a reader knows it by."""
    faults: Sequence[str]
    """Reasons why it may not ship; each is the end of a sentence."""
    gain: str = ""
    """What is said for it if it ships."""


@dataclass(frozen=True)
class Verdict(Generic[Choice]):
    """What ships, and the reason why the others do not."""

    choice: Choice
    reason: str


def first_without_fault(candidates: Sequence[Candidate[Choice]]) -> Verdict[Choice]:
    """The first candidate without a fault; the last one ships when no other may."""
    passed_over: list[str] = []
    for candidate in candidates[:-1]:
        if not candidate.faults:
            break
        passed_over.append(f"not {candidate.title}: {' and '.join(candidate.faults)}")
    else:
        candidate = candidates[-1]
    ships = f"{candidate.title} ships" + (f": {candidate.gain}" if candidate.gain else "")
    return Verdict(candidate.choice, "; ".join([ships, *passed_over]))


@dataclass(frozen=True)
class StudentComparison:
    """NDCG@10 of both students over the same validation users."""

    users: int
    distilled: float
    undistilled: float
    difference: Difference
    """The distilled student's mean less the undistilled one's, paired by user."""

    def worse(self) -> StudentName | None:
        """The student with the smaller mean; None where both are equal."""
        if self.distilled == self.undistilled:
            return None
        return "undistilled" if self.distilled > self.undistilled else "distilled"


def choose_student(compared: StudentComparison) -> Verdict[StudentName]:
    """The distilled student, unless the undistilled one ranks the validation users better."""
    figures = _figures(compared)
    faults = [figures] if compared.worse() == "distilled" else []
    return first_without_fault(
        [Candidate("distilled", _TITLES["distilled"], faults, figures), Candidate("undistilled", _TITLES["undistilled"], [])]
    )


def forced_student(wanted: StudentName, compared: StudentComparison) -> Verdict[StudentName]:
    """The student that the settings ask for; the reason holds a warning where the other one ranks better."""
    warning = "WARNING, the student that ranks worse ships: " if compared.worse() == wanted else ""
    return Verdict(wanted, f"{warning}{_TITLES[wanted]} ships, for the settings ask for it; {_figures(compared)}")


def _figures(compared: StudentComparison) -> str:
    """Both means and their difference with its interval, and what they say about the distilled student."""
    difference = compared.difference
    clear = difference.low > 0 or difference.high < 0
    certainty = "" if clear else ", but these users are too few to tell this from no difference"
    ranks = {"undistilled": "better", "distilled": "worse", None: "equally well"}[compared.worse()]
    return (
        f"on {compared.users:,} validation users the distilled student's NDCG@10 is {compared.distilled:.4f} and the undistilled"
        f" student's {compared.undistilled:.4f}, a difference of {difference.mean:+.4f} ({_LEVEL} interval, paired by user:"
        f" {difference.low:+.4f} to {difference.high:+.4f}); the distilled student ranks {'clearly ' if clear else ''}{ranks}"
        f"{certainty}"
    )


@dataclass(frozen=True)
class PrecisionMeasurement:
    """Speed and ranking of one precision on one target."""

    precision: Precision
    p50_ms: float
    """Median milliseconds of a request of one user."""
    agreement: Agreement
    """Agreement with the FP32 reference, over validation users."""


def budget_faults(agreement: Agreement, min_overlap_at_10: float = MIN_OVERLAP_AT_10) -> list[str]:
    """Descriptions of the limits that a precision or head exceeds; empty if it keeps the ranking."""
    faults = []
    if not agreement.ndcg_loss <= MAX_NDCG_LOSS:
        faults.append(f"it loses {agreement.ndcg_loss:.2%} of NDCG@10 (at most {MAX_NDCG_LOSS:.1%})")
    if not agreement.overlap_at_10 >= min_overlap_at_10:
        faults.append(f"it keeps {agreement.overlap_at_10:.3f} of the top 10 (at least {min_overlap_at_10})")
    return faults


def choose_precision(measured: Sequence[PrecisionMeasurement]) -> Verdict[Precision]:
    """The first precision that keeps the ranking and is faster than every more exact one.

    Args:
        measured: Precisions from the smallest to the reference, which is last and ships when no other may.
    """
    return first_without_fault([_precision_candidate(one, measured[place:]) for place, one in enumerate(measured, start=1)])


def _precision_candidate(measured: PrecisionMeasurement, more_exact: Sequence[PrecisionMeasurement]) -> Candidate[Precision]:
    name = measured.precision.value
    if not more_exact:
        return Candidate(measured.precision, name, [])
    fastest = min(more_exact, key=lambda other: other.p50_ms)
    faults = budget_faults(measured.agreement)
    if measured.p50_ms > MAX_LATENCY_RATIO * fastest.p50_ms:
        faults.append(
            f"{measured.p50_ms:.3f} ms a request is not faster than {fastest.precision.value} with {fastest.p50_ms:.3f} ms"
        )
    gain = f"{fastest.p50_ms / measured.p50_ms:.2f}x as fast as {fastest.precision.value}, within the ranking budget"
    return Candidate(measured.precision, name, faults, gain)


@dataclass(frozen=True)
class HeadMeasurement:
    """Speed and ranking of a student with an approximate head, next to the exhaustive head that would be served."""

    p50_ms: float
    """Median milliseconds of a request of one user, encoder included."""
    exhaustive_p50_ms: float
    """The same of the exhaustive head in the precision that is served."""
    agreement: Agreement
    """Agreement with the exhaustive head in FP32, over validation users."""


def choose_head(measured: HeadMeasurement) -> Verdict[Head]:
    """The approximate head, if it is faster and keeps the ranking."""
    gain = (
        f"{measured.exhaustive_p50_ms / measured.p50_ms:.2f}x as fast as the exhaustive one, keeps"
        f" {measured.agreement.overlap_at_10:.3f} of its top 10, and loses {measured.agreement.ndcg_loss:.2%} of NDCG@10"
    )
    return first_without_fault(
        [
            Candidate(Head.APPROXIMATE, "the approximate head", _head_faults(measured), gain),
            Candidate(Head.EXHAUSTIVE, "the exhaustive head", []),
        ]
    )


def forced_head(measured: HeadMeasurement) -> Verdict[Head]:
    """The approximate head, because the settings ask for it; the reason holds a warning where it would not ship otherwise."""
    if not (faults := _head_faults(measured)):
        return choose_head(measured)
    reason = f"WARNING, the approximate head ships, for the settings ask for it, although {' and '.join(faults)}"
    return Verdict(Head.APPROXIMATE, reason)


def _head_faults(measured: HeadMeasurement) -> list[str]:
    """Reasons why the approximate head may not ship; each is the end of a sentence."""
    faults = budget_faults(measured.agreement, MIN_HEAD_OVERLAP_AT_10)
    if measured.p50_ms > MAX_LATENCY_RATIO * measured.exhaustive_p50_ms:
        faults.append(
            f"{measured.p50_ms:.3f} ms a request is not faster than the exhaustive one with {measured.exhaustive_p50_ms:.3f} ms"
        )
    return faults
