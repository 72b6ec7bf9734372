"""evaluation.json and evaluation.md: what was kept of the teacher, what distillation gained, and who lost by it."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from distilrec.core.tables import escape_cell, markdown_table
from distilrec.evaluation import bootstrap
from distilrec.evaluation.bootstrap import Difference, Estimate
from distilrec.evaluation.metrics import METRICS
from distilrec.evaluation.ranking import Evaluation, harm
from distilrec.evaluation.slices import MIN_USERS

JSON_FILE = "evaluation.json"
MARKDOWN_FILE = "evaluation.md"

_LEVEL = f"{bootstrap.LEVEL:.0%}".replace("%", " %")


@dataclass(frozen=True)
class Roles:
    """Which hop is what, by name."""

    teacher: str
    undistilled: str
    distilled: str


@dataclass(frozen=True)
class Report:
    """An evaluation and what it is of."""

    run: str
    split: str
    seeds: tuple[int, ...]
    unjudged_users: int
    truncated_users: int
    roles: Roles
    parameters: dict[str, int]
    """Numbers each hop needs at inference."""
    size_bytes: dict[str, int]
    catalogue_popularity: float
    """Mean training count of the catalogue's items: what random recommendations would have."""
    truth_popularity: float
    """The same of the right answers, mean over users."""
    evaluation: Evaluation


def render_json(report: Report) -> str:
    """The whole report as JSON; ends with a newline."""
    roles = report.roles
    content: dict[str, Any] = {"format_version": 1, **asdict(report)}
    content["bootstrap"] = {"samples": bootstrap.SAMPLES, "seed": bootstrap.SEED, "level": bootstrap.LEVEL}
    content["harm"] = [asdict(one) for one in harm(report.evaluation, roles.distilled, roles.undistilled)]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def render_markdown(report: Report) -> str:
    """The report for a reader; ends with a newline."""
    parts = [_head(report), _overall(report), _differences(report), _catalogue(report), _slices(report), _harm(report)]
    return "\n\n".join(parts) + "\n"


def label(metric: str) -> str:
    """A metric as it is written, for example NDCG@10 or coverage@10."""
    return metric.upper() if metric.partition("@")[0] in METRICS else metric


def with_interval(estimate: Estimate | Difference, sign: str = "") -> str:
    """A mean and its interval, with four digits."""
    return f"{estimate.mean:{sign}.4f} [{estimate.low:{sign}.4f}, {estimate.high:{sign}.4f}]"


def meanings(evaluation: Evaluation) -> str:
    """What the slices are whose names do not say it, as a list."""
    return "\n".join(
        f"- {escape_cell(name)}: {escape_cell(group.meaning)}" for name, group in evaluation.slices.items() if group.meaning
    )


def _head(report: Report) -> str:
    everybody = report.evaluation.everybody
    seeds = ", ".join(map(str, report.seeds))
    over = f"Means over the seeds {seeds}" if len(report.seeds) > 1 else f"One seed ({seeds})"
    return (
        f"# Evaluation of {report.run} on its {report.split} split\n\n"
        f"Full ranking of the whole catalogue for {everybody.users:,} held-out users, seen items removed"
        f" ({report.unjudged_users:,} users have nothing to be judged by, {report.truncated_users:,} saw more than a request can"
        f" name). {over}. In brackets: {_LEVEL} intervals of a paired bootstrap over users ({bootstrap.SAMPLES:,} draws)."
    )


def _overall(report: Report) -> str:
    estimates = report.evaluation.everybody.estimates
    metrics = [metric for metric in next(iter(estimates.values())) if not metric.startswith("popularity")]
    rows = [[hop, *(f"{of[metric].mean:.4f}" for metric in metrics)] for hop, of in estimates.items()]
    text = f"## All users\n\n{markdown_table(['', *map(label, metrics)], rows)}"
    if len(report.seeds) == 1:
        return text
    main = report.evaluation.primary
    spread = [
        [hop, *(f"{x:.4f}" for x in of[main].seeds), f"{np.std(of[main].seeds, ddof=1):.4f}"] for hop, of in estimates.items()
    ]
    headings = [f"{label(main)} by seed", *map(str, report.seeds), "standard deviation"]
    return f"{text}\n\n{markdown_table(headings, spread)}"


def _differences(report: Report) -> str:
    """All hops in the primary metric, then the distilled student in all metrics."""
    everybody, main, roles = report.evaluation.everybody, report.evaluation.primary, report.roles
    to_undistilled, to_teacher = everybody.differences[roles.undistilled], everybody.differences[roles.teacher]
    rows = [
        [
            hop,
            with_interval(of[main]),
            with_interval(to_undistilled[hop][main], "+") if hop in to_undistilled else "",
            with_interval(to_teacher[hop][main], "+") if hop in to_teacher else "",
            _retention(to_teacher[hop][main]) if hop in to_teacher else "",
            f"{report.parameters[hop]:,}",
            f"{report.size_bytes[hop]:,}",
        ]
        for hop, of in everybody.estimates.items()
    ]
    hops = markdown_table(
        ["", label(main), f"less {roles.undistilled}", f"less {roles.teacher}", "retention", "parameters", "bytes"], rows
    )
    gained = [
        [label(m), with_interval(d, "+"), _relative(d), with_interval(t, "+"), _relative(t)]
        for m, d in to_undistilled[roles.distilled].items()
        if not m.startswith("popularity")
        for t in [to_teacher[roles.distilled][m]]
    ]
    headings = [roles.distilled, f"less {roles.undistilled}", "relative", f"less {roles.teacher}", "relative"]
    return (
        f"## What was kept and what was gained\n\nRetention is a hop's {label(main)} as a share of the teacher's.\n\n"
        f"{hops}\n\n{markdown_table(headings, gained)}"
    )


def _catalogue(report: Report) -> str:
    cut = report.evaluation.primary.partition("@")[2]
    estimates, coverage = report.evaluation.everybody.estimates, report.evaluation.coverage
    rows = [
        [hop, f"{coverage[hop][f'coverage@{cut}']:.1%}".replace("%", " %"), f"{of[f'popularity@{cut}'].mean:.1f}"]
        for hop, of in estimates.items()
    ]
    return (
        f"## Catalogue\n\nCoverage: share of the catalogue among the first {cut} of at least one user. Popularity: mean number of"
        f" training interactions of recommended items; an item of the catalogue has {report.catalogue_popularity:.1f} on average, a"
        f" right answer {report.truth_popularity:.1f}.\n\n{markdown_table(['', f'coverage@{cut}', f'popularity@{cut}'], rows)}"
    )


def _slices(report: Report) -> str:
    evaluation, roles, main = report.evaluation, report.roles, report.evaluation.primary
    shown = (roles.teacher, roles.undistilled, roles.distilled)
    rows = []
    for name, group in evaluation.slices.items():
        means = [f"{group.estimates[hop][main].mean:.4f}" for hop in shown]
        rows.append(
            [name, f"{group.users:,}", *means, with_interval(group.differences[roles.undistilled][roles.distilled][main], "+")]
        )
    headings = [label(main), "users", *shown, "distilled less undistilled"]
    text = f"## Slices\n\nSlices of fewer than {MIN_USERS} users are left out."
    return f"{text}\n\n{markdown_table(headings, rows)}\n\n{meanings(evaluation)}"


def _harm(report: Report) -> str:
    evaluation, roles, main = report.evaluation, report.roles, report.evaluation.primary
    lost = harm(evaluation, roles.distilled, roles.undistilled)
    text = f"## Distillation harm\n\n{_verdict(report, len(lost), sum(one.clear for one in lost))}"
    if not lost:
        return text
    rows = [
        [one.slice, f"{one.users:,}", with_interval(one.difference, "+"), _relative(one.difference), "yes" if one.clear else "no"]
        for one in lost
    ]
    return f"{text}\n\n{markdown_table(['slice', 'users', f'difference in {label(main)}', 'relative', 'clear'], rows)}"


def _verdict(report: Report, lost: int, clear: int) -> str:
    """What can be said of the losses, and what the number of users does not let one say."""
    evaluation, roles, main = report.evaluation, report.roles, report.evaluation.primary
    count = len(evaluation.slices)
    if not count:
        return f"No slice has {MIN_USERS} users; nothing can be said."
    what = f"against the undistilled student in {label(main)}"
    if not lost:
        found = f"None of the {count} slices lost {what}."
    elif not clear:
        found = f"{lost} of {count} slices lost {what}, none of them clearly: every interval reaches 0 or above."
    else:
        found = f"{lost} of {count} slices lost {what}, {clear} of them clearly: the whole interval lies below 0."
    by_chance = count * (1 - bootstrap.LEVEL) / 2
    chance = f"If distillation changed nothing, about {by_chance:.1f} of {count} would lose clearly by chance."
    name, worst = min(
        ((name, group.differences[roles.undistilled][roles.distilled][main]) for name, group in evaluation.slices.items()),
        key=lambda found: found[1].low,
    )
    rest = f"With these users a loss of up to {max(0.0, -worst.low):.4f} cannot be ruled out ({escape_cell(name)})."
    return f"{found} {chance} {rest}"


def _relative(difference: Difference) -> str:
    return "" if difference.relative is None else f"{difference.relative:+.1%}".replace("%", " %")


def _retention(difference: Difference) -> str:
    if difference.relative is None:
        return ""
    text = f"{1 + difference.relative:.1%}"
    if difference.relative_low is not None and difference.relative_high is not None:
        text += f" [{1 + difference.relative_low:.1%}, {1 + difference.relative_high:.1%}]"
    return text.replace("%", " %")
