"""evaluation.json and evaluation.md: what the student kept of its teacher, gained from distillation, and for whom it lost."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from distilrec.core.tables import escape_markdown, markdown_table
from distilrec.evaluation import bootstrap
from distilrec.evaluation.bootstrap import Difference, Estimate
from distilrec.evaluation.cold import NEIGHBOURS, POPULARITY, ColdEvaluation
from distilrec.evaluation.metrics import METRICS
from distilrec.evaluation.ranking import Evaluation, regressions
from distilrec.evaluation.slices import MIN_USERS

JSON_FILE = "evaluation.json"
MARKDOWN_FILE = "evaluation.md"

_BASELINES = (POPULARITY, NEIGHBOURS)
_LEVEL = f"{bootstrap.LEVEL:.0%}".replace("%", " %")


@dataclass(frozen=True)
class Roles:
    """Names of the models that are compared."""

    teacher: str
    """Not among the models where it could not be evaluated."""
    undistilled: str
    distilled: str


@dataclass(frozen=True)
class EvaluationReport:
    """An evaluation, and the run, split, seeds and models it is about."""

    run: str
    split: str
    seeds: tuple[int, ...]
    unjudged_users: int
    truncated_users: int
    roles: Roles
    verdicts: dict[int, str]
    """By seed: which student is exported, and why."""
    parameters: dict[str, int]
    """Parameters that each model needs at inference."""
    size_bytes: dict[str, int]
    """Size of each model's weights on disk."""
    catalogue_popularity: float
    """Mean training count of the catalogue's items, which is also that of random recommendations."""
    truth_popularity: float
    """Mean training count of the right answers, averaged over users."""
    evaluation: Evaluation
    repeats: bool = False
    """Whether seen items may be recommended, and count as right answers."""
    teacher_note: str = ""
    """Why the teacher is not among the models, a sentence; empty where it is."""
    cold: ColdEvaluation | None = None
    """By items that were held out from training; None where the data holds none out."""


def render_json(report: EvaluationReport) -> str:
    """Render the whole report as JSON; ends with a newline."""
    roles = report.roles
    content: dict[str, Any] = {"format_version": 1, **asdict(report)}
    if report.cold is None:
        del content["cold"]
    content["bootstrap"] = {"samples": bootstrap.SAMPLES, "seed": bootstrap.SEED, "level": bootstrap.LEVEL}
    content["harm"] = [asdict(one) for one in regressions(report.evaluation, roles.distilled, roles.undistilled)]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def render_markdown(report: EvaluationReport) -> str:
    """Render the report as Markdown; ends with a newline."""
    parts = [_head(report), _overall(report), _differences(report), _catalogue(report), _slices(report), _regressions(report)]
    if report.cold is not None:
        parts.append(_cold(report.cold))
    return "\n\n".join(parts) + "\n"


def label(metric: str) -> str:
    """Name of a metric as it is written for readers, for example NDCG@10 or coverage@10."""
    return metric.upper() if metric.partition("@")[0] in METRICS else metric


def with_interval(estimate: Estimate | Difference, sign: str = "") -> str:
    """A mean and its interval, with four digits."""
    return f"{estimate.mean:{sign}.4f} [{estimate.low:{sign}.4f}, {estimate.high:{sign}.4f}]"


def meanings(evaluation: Evaluation) -> str:
    """Meanings of the slices whose names do not say it, as a Markdown list."""
    return "\n".join(
        f"- {escape_markdown(name)}: {escape_markdown(group.meaning)}" for name, group in evaluation.slices.items() if group.meaning
    )


def _head(report: EvaluationReport) -> str:
    everybody = report.evaluation.everybody
    seeds = ", ".join(map(str, report.seeds))
    ranked = "seen items may be recommended and count" if report.repeats else "seen items removed"
    over = f"Means over the seeds {seeds}" if len(report.seeds) > 1 else f"One seed ({seeds})"
    return (
        f"# Evaluation of {report.run} on its {report.split} split\n\n"
        f"Full ranking of the whole catalogue for {everybody.users:,} held-out users, {ranked}"
        f" ({report.unjudged_users:,} users have no history or nothing new after the cut, {report.truncated_users:,} have seen"
        f" more items than a request can hold). {over}. In brackets: {_LEVEL} intervals of a paired bootstrap over users"
        f" ({bootstrap.SAMPLES:,} draws).\n\n{_exported_students(report)}"
        + (f"\n\n{escape_markdown(report.teacher_note)}" if report.teacher_note else "")
    )


def _exported_students(report: EvaluationReport) -> str:
    """Say which student is exported and why, for each seed."""
    if len(report.seeds) == 1:
        (reason,) = report.verdicts.values()
        return f"Student: {reason}."
    return "\n".join(f"- Student of seed {seed}: {reason}." for seed, reason in report.verdicts.items())


def _overall(report: EvaluationReport) -> str:
    estimates = report.evaluation.everybody.estimates
    metrics = [metric for metric in next(iter(estimates.values())) if not metric.startswith("popularity")]
    rows = [[model, *(f"{of[metric].mean:.4f}" for metric in metrics)] for model, of in estimates.items()]
    text = f"## All users\n\n{markdown_table(['', *map(label, metrics)], rows)}"
    if len(report.seeds) == 1:
        return text
    main = report.evaluation.primary
    spread = [
        [model, *(f"{x:.4f}" for x in of[main].seeds), f"{np.std(of[main].seeds, ddof=1):.4f}"] for model, of in estimates.items()
    ]
    headings = [f"{label(main)} by seed", *map(str, report.seeds), "standard deviation"]
    return f"{text}\n\n{markdown_table(headings, spread)}"


def _differences(report: EvaluationReport) -> str:
    """Tables of all models in the primary metric, and of the distilled student in all metrics."""
    everybody, main, roles = report.evaluation.everybody, report.evaluation.primary, report.roles
    to_undistilled, to_teacher = everybody.differences[roles.undistilled], everybody.differences.get(roles.teacher, {})
    rows = [
        [
            model,
            with_interval(of[main]),
            with_interval(to_undistilled[model][main], "+") if model in to_undistilled else "",
            with_interval(to_teacher[model][main], "+") if model in to_teacher else "",
            _retention(to_teacher[model][main]) if model in to_teacher else "",
            f"{report.parameters[model]:,}",
            f"{report.size_bytes[model]:,}",
        ]
        for model, of in everybody.estimates.items()
    ]
    models = markdown_table(
        ["", label(main), f"less {roles.undistilled}", f"less {roles.teacher}", "retention", "parameters", "bytes"], rows
    )
    gained = [
        [label(m), with_interval(d, "+"), _relative(d), *_with_relative(to_teacher.get(roles.distilled, {}).get(m))]
        for m, d in to_undistilled[roles.distilled].items()
        if not m.startswith("popularity")
    ]
    headings = [roles.distilled, f"less {roles.undistilled}", "relative", f"less {roles.teacher}", "relative"]
    return (
        f"## What was kept and what was gained\n\nRetention is a model's {label(main)} as a share of the teacher's.\n\n"
        f"{models}\n\n{markdown_table(headings, gained)}"
    )


def _catalogue(report: EvaluationReport) -> str:
    cut = report.evaluation.primary.partition("@")[2]
    estimates, coverage = report.evaluation.everybody.estimates, report.evaluation.coverage
    rows = [
        [model, f"{coverage[model][f'coverage@{cut}']:.1%}".replace("%", " %"), f"{of[f'popularity@{cut}'].mean:.1f}"]
        for model, of in estimates.items()
    ]
    return (
        f"## Catalogue\n\nCoverage: share of the catalogue among the first {cut} of at least one user. Popularity: mean number of"
        f" training interactions of recommended items; an item of the catalogue has {report.catalogue_popularity:.1f} on average, a"
        f" right answer {report.truth_popularity:.1f}.\n\n{markdown_table(['', f'coverage@{cut}', f'popularity@{cut}'], rows)}"
    )


def _slices(report: EvaluationReport) -> str:
    evaluation, roles, main = report.evaluation, report.roles, report.evaluation.primary
    shown = tuple(one for one in (roles.teacher, roles.undistilled, roles.distilled) if one in evaluation.everybody.estimates)
    rows = []
    for name, group in evaluation.slices.items():
        means = [f"{group.estimates[model][main].mean:.4f}" for model in shown]
        rows.append(
            [
                escape_markdown(name),
                f"{group.users:,}",
                *means,
                with_interval(group.differences[roles.undistilled][roles.distilled][main], "+"),
            ]
        )
    headings = [label(main), "users", *shown, "distilled less undistilled"]
    text = f"## Slices\n\nSlices of fewer than {MIN_USERS} users are left out."
    return f"{text}\n\n{markdown_table(headings, rows)}\n\n{meanings(evaluation)}"


def _regressions(report: EvaluationReport) -> str:
    evaluation, roles, main = report.evaluation, report.roles, report.evaluation.primary
    worse = regressions(evaluation, roles.distilled, roles.undistilled)
    text = f"## Regressions by distillation\n\n{_verdict(report, len(worse), sum(one.clear for one in worse))}"
    if not worse:
        return text
    rows = [
        [
            escape_markdown(one.slice),
            f"{one.users:,}",
            with_interval(one.difference, "+"),
            _relative(one.difference),
            "yes" if one.clear else "no",
        ]
        for one in worse
    ]
    return f"{text}\n\n{markdown_table(['slice', 'users', f'difference in {label(main)}', 'relative', 'clear'], rows)}"


def _cold(cold: ColdEvaluation) -> str:
    """Table of all models and of the answers without training."""
    whole, among = cold.whole.everybody, cold.among.everybody
    hits = f"hr@{cold.whole.primary.partition('@')[2]}"
    rows = []
    for model, of in whole.estimates.items():
        differences = [whole.differences.get(name, {}).get(model) for name in _BASELINES]
        less = [with_interval(one[hits], "+") if one else "" for one in differences]
        means = [of[cold.whole.primary].mean, among.estimates[model][hits].mean]
        rows.append([model, with_interval(of[hits]), *less, *(f"{mean:.4f}" for mean in means)])
    headings = ["", label(hits), *(f"less {name}" for name in _BASELINES), label(cold.whole.primary), f"{label(hits)} among these"]
    return (
        f"## Items that nobody has touched\n\nAll interactions of {cold.items:,} items were held out from training. One request"
        f" for each of {whole.users:,} users, whose right answer is such an item: ranked over the whole catalogue, and in the last"
        f" column among these {cold.items:,} items alone.\n\n{markdown_table(headings, rows)}"
    )


def _verdict(report: EvaluationReport, worse: int, clear: int) -> str:
    """What the losses show, and what the number of users is too small to show.

    Args:
        report: The evaluation.
        worse: Number of slices in which the distilled student ranks worse.
        clear: Number of those whose whole interval lies below 0.
    """
    evaluation, roles, main = report.evaluation, report.roles, report.evaluation.primary
    count = len(evaluation.slices)
    if not count:
        return f"No slice has {MIN_USERS} users; nothing can be said."
    what = f"against the undistilled student in {label(main)}"
    if not worse:
        result = f"None of the {count} slices lost {what}."
    elif not clear:
        result = f"{worse} of {count} slices lost {what}, none of them clearly: every interval reaches 0 or above."
    else:
        result = f"{worse} of {count} slices lost {what}, {clear} of them clearly: the whole interval lies below 0."
    by_chance = count * (1 - bootstrap.LEVEL) / 2
    chance = f"If distillation changed nothing, about {by_chance:.1f} of {count} would lose clearly by chance."
    differences = {name: group.differences[roles.undistilled][roles.distilled][main] for name, group in evaluation.slices.items()}
    name, lowest = min(differences.items(), key=lambda difference: difference[1].low)
    rest = f"With these users a loss of up to {max(0.0, -lowest.low):.4f} cannot be ruled out ({escape_markdown(name)})."
    return f"{result} {chance} {rest}"


def _relative(difference: Difference) -> str:
    return "" if difference.relative is None else f"{difference.relative:+.1%}".replace("%", " %")


def _with_relative(difference: Difference | None) -> tuple[str, str]:
    return ("", "") if difference is None else (with_interval(difference, "+"), _relative(difference))


def _retention(difference: Difference) -> str:
    if difference.relative is None:
        return ""
    text = f"{1 + difference.relative:.1%}"
    if difference.relative_low is not None and difference.relative_high is not None:
        text += f" [{1 + difference.relative_low:.1%}, {1 + difference.relative_high:.1%}]"
    return text.replace("%", " %")
