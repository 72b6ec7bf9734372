"""Verdict on an update: is it as good on what is new, and what has it forgotten of what was?"""

from dataclasses import dataclass
from typing import Any

from distilrec.evaluation.bootstrap import LEVEL, Difference
from distilrec.evaluation.ranking import Evaluation, SliceRegression, regressions

FORMER, UPDATED = "former", "updated"
"""Names of the two students that are compared: the one before the update, and the updated one."""

_LEVEL = f"{LEVEL:.0%}".replace("%", " %")


@dataclass(frozen=True)
class UpdateComparison:
    """NDCG@10 of both students over the same users."""

    users: int
    former: float
    updated: float
    difference: Difference
    """The updated student's mean less the former one's, paired by user."""
    slices: dict[str, Difference]
    """The same over each slice of the users."""
    lost: tuple[SliceRegression, ...]
    """Slices that the update ranks clearly worse, the largest loss first."""

    @property
    def clearly_worse(self) -> bool:
        """Whether the whole interval lies below 0."""
        return self.difference.high < 0

    @property
    def loss(self) -> float:
        """Share of the former student's NDCG@10 that is lost; below 0 for a gain, 0 where there was nothing to lose."""
        return -(self.difference.relative or 0.0)


@dataclass(frozen=True)
class UpdateVerdict:
    """Whether an update may be served, and the reason in one line."""

    taken: bool
    reason: str


def compare_update(evaluation: Evaluation) -> UpdateComparison:
    """Both students' figures, from an evaluation with the former one as a reference."""
    metric, everybody = evaluation.primary, evaluation.everybody
    return UpdateComparison(
        everybody.users,
        everybody.estimates[FORMER][metric].mean,
        everybody.estimates[UPDATED][metric].mean,
        everybody.differences[FORMER][UPDATED][metric],
        {name: group.differences[FORMER][UPDATED][metric] for name, group in evaluation.slices.items()},
        tuple(one for one in regressions(evaluation, UPDATED, FORMER) if one.clear),
    )


def judge_update(newest: UpdateComparison, earlier: UpdateComparison | None, max_loss: float) -> UpdateVerdict:
    """Take an update unless it is clearly worse on the newest events, or has clearly lost more than the budget on earlier users.

    A loss is clear if its whole interval lies below 0: on few users, chance alone makes larger differences than the budget.

    Args:
        newest: Users whose newest event was held out.
        earlier: Users who were held out earlier; None where there are none.
        max_loss: Largest share of the NDCG@10 on earlier users that may be lost.
    """
    faults = []
    if newest.clearly_worse:
        faults.append("it is clearly worse on the newest events")
    if earlier is not None and earlier.clearly_worse and earlier.loss > max_loss:
        faults.append(f"it has lost {earlier.loss:.1%} on earlier users (at most {max_loss:.1%})")
    said = f"the update is not taken: {' and '.join(faults)}" if faults else "the update is taken"
    figures = [_figures(newest, "users' newest events")]
    figures.append(
        "there are no earlier users to judge forgetting by" if earlier is None else _figures(earlier, "earlier held-out users")
    )
    return UpdateVerdict(not faults, "; ".join([said, *figures]))


def _figures(compared: UpdateComparison, whose: str) -> str:
    difference = compared.difference
    clear = difference.low > 0 or compared.clearly_worse
    lost = f"; clearly worse for {', '.join(one.slice for one in compared.lost)}" if compared.lost else ""
    return (
        f"on {compared.users:,} {whose} NDCG@10 is {compared.updated:.4f} and was {compared.former:.4f}"
        f" ({difference.mean:+.4f}, {_LEVEL} interval, paired by user: {difference.low:+.4f} to {difference.high:+.4f}"
        f"{'' if clear else ', too few users to tell this from no difference'}){lost}"
    )


def update_verdict(report: dict[str, Any]) -> UpdateVerdict | None:
    """The verdict on an exported update; None for an export that is no update.

    Args:
        report: Content of the artefact's report.json.
    """
    update = report.get("student", {}).get("update")
    return None if update is None else UpdateVerdict(bool(update["taken"]), str(update["reason"]))
