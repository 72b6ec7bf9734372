"""The choice of the served precision: the smallest one that is faster on this machine and keeps the ranking."""

from collections.abc import Sequence
from dataclasses import dataclass

from distilrec.core.specs import Precision
from distilrec.evaluation.contract import Agreement

MAX_NDCG_LOSS = 0.005
"""Largest share of the reference's NDCG@10 that may be lost."""

MIN_OVERLAP_AT_10 = 0.95
"""Smallest mean share of the reference's first 10 items that must be kept."""

MAX_LATENCY_RATIO = 0.95
"""A precision is faster if it needs at most this share of the other one's time; repeated measurements differ by smaller gains."""


@dataclass(frozen=True)
class PrecisionMeasurement:
    """Speed and ranking of one precision on one target."""

    precision: Precision
    p50_ms: float
    """Median milliseconds of a request of one user."""
    agreement: Agreement
    """Agreement with the FP32 reference, over validation users."""


@dataclass(frozen=True)
class Verdict:
    """The precision that ships, and the reason why the others do not."""

    precision: Precision
    reason: str


def budget_faults(agreement: Agreement) -> list[str]:
    """Descriptions of the limits that a precision exceeds; empty if it keeps the ranking."""
    faults = []
    if not agreement.ndcg_loss <= MAX_NDCG_LOSS:
        faults.append(f"it loses {agreement.ndcg_loss:.2%} of NDCG@10 (at most {MAX_NDCG_LOSS:.1%})")
    if not agreement.overlap_at_10 >= MIN_OVERLAP_AT_10:
        faults.append(f"it keeps {agreement.overlap_at_10:.3f} of the top 10 (at least {MIN_OVERLAP_AT_10})")
    return faults


def choose(measured: Sequence[PrecisionMeasurement]) -> Verdict:
    """The first precision that keeps the ranking and is faster than every more exact one.

    Args:
        measured: Precisions from the smallest to the reference, which is last and ships when no other may.
    """
    passed_over: list[str] = []
    for place, candidate in enumerate(measured[:-1]):
        fastest = min(measured[place + 1 :], key=lambda other: other.p50_ms)
        faults = budget_faults(candidate.agreement)
        if candidate.p50_ms > MAX_LATENCY_RATIO * fastest.p50_ms:
            faults.append(
                f"{candidate.p50_ms:.3f} ms a request is not faster than {fastest.precision.value} with {fastest.p50_ms:.3f} ms"
            )
        if not faults:
            gain = f"{fastest.p50_ms / candidate.p50_ms:.2f}x as fast as {fastest.precision.value}, within the ranking budget"
            return Verdict(candidate.precision, "; ".join([f"{candidate.precision.value} ships: {gain}", *passed_over]))
        passed_over.append(f"not {candidate.precision.value}: {' and '.join(faults)}")
    return Verdict(measured[-1].precision, "; ".join([f"{measured[-1].precision.value} ships", *passed_over]))
