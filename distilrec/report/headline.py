"""The head of the report: a sentence, three numbers and a few findings that give the result in a minute."""

from typing import NamedTuple

from distilrec.report.content import ReportContent
from distilrec.report.number_format import megabytes, milliseconds, number_with_interval, percent, share_with_interval, times

_NOT_MEASURED = "not measured"

_CHANCE_OF_CLEAR_REGRESSION = 0.025
"""Share of slices whose 95 % interval lies below 0 by chance, if distillation changes nothing."""


class HeadlineNumber(NamedTuple):
    """A number in large type."""

    value: str
    name: str
    note: str


class _SpeedUp(NamedTuple):
    """Time of one request to the served student and to the teacher, from the same benchmark run."""

    student_ms: float
    teacher_ms: float

    @property
    def factor(self) -> float:
        return self.teacher_ms / self.student_ms


def summary_sentence(content: ReportContent) -> str:
    """Say in one sentence what the served student keeps of the teacher's quality and what it gains."""
    evaluation = content.evaluation
    retention = evaluation.models[content.served_model].retention
    precision = content.artefact.metrics["precision"].upper()
    kind = "distilled" if content.artefact.settings["ships"] == "distilled" else "trained without a teacher"
    kept = (
        "cannot be compared with the teacher"
        if retention is None
        else f"keeps {percent(retention.mean)} of the teacher's {evaluation.metric}"
    )
    speed_up = _speed_up(content)
    faster = "" if speed_up is None else f", answers {times(speed_up.factor).removesuffix('x')} times faster"
    ratio = _size_ratio(content)
    size = "" if ratio is None else f" and takes {percent(1 / ratio)} of its bytes"
    return f"The student that is served ({precision}, {kind}) {kept}{faster}{size}."


def headline_numbers(content: ReportContent) -> tuple[HeadlineNumber, HeadlineNumber, HeadlineNumber]:
    """Return retention, speed-up and size ratio."""
    return _retention_number(content), _speed_number(content), _size_number(content)


def findings(content: ReportContent) -> list[str]:
    """Say which student ships and why, what distillation gained, which slices regressed, and why the precision was chosen."""
    evaluation = content.evaluation
    gain = evaluation.models[evaluation.distilled].gain
    assert gain is not None  # Only the undistilled student has no gain.
    significance = "a clear difference" if gain.excludes_zero else "which these users cannot tell from no difference"
    sentences = [
        f"Teachers: {content.teachers_verdict['reason']}.",
        f"Student: {content.student_verdict['reason']}.",
        *content.updates,
        f"The distilled student against the same one trained without a teacher, {evaluation.split} users:"
        f" {number_with_interval(gain, '+')} {evaluation.metric}, {significance}. The intervals are over users"
        f"{'' if len(evaluation.seeds) > 1 else '; another seed was not tried'}.",
    ]
    if evaluation.slices:
        sentences.append(_slices_finding(content))
    if evaluation.teacher_note:
        sentences.append(evaluation.teacher_note)
    if "head" in content.export:
        sentences.append(f"Served head: {content.export['head']['reason']}.")
    return [*sentences, f"Served precision: {content.export['verdict']['reason']}."]


def _slices_finding(content: ReportContent) -> str:
    slices = content.evaluation.slices
    worse = [one.name for one in slices if one.clear_regression]
    better = [one.name for one in slices if one.clear_gain]
    regressions = f"{len(worse)} clearly worse ({', '.join(worse)})" if worse else "none clearly worse"
    return (
        f"Of {len(slices)} groups of users, the distilled student ranks {len(better) or 'none'} clearly better than the undistilled"
        f" one, {regressions}."
        f" By chance alone about {len(slices) * _CHANCE_OF_CLEAR_REGRESSION:.1f} would be clearly worse."
    )


def _retention_number(content: ReportContent) -> HeadlineNumber:
    evaluation, name = content.evaluation, "kept of the teacher"
    retention = evaluation.models[content.served_model].retention
    if retention is None:
        reason = "the teacher is not evaluated" if evaluation.teacher_note else "the teacher got nothing right"
        return HeadlineNumber(_NOT_MEASURED, name, reason)
    interval = share_with_interval(retention).partition("[")[2].rstrip("]").replace(", ", " to ") or "unknown"
    seeds = "1 seed" if len(evaluation.seeds) == 1 else f"{len(evaluation.seeds)} seeds"
    note = f"of {evaluation.metric}; 95 % interval {interval}; {evaluation.users:,} {evaluation.split} users, {seeds}"
    return HeadlineNumber(percent(retention.mean), name, note)


def _speed_number(content: ReportContent) -> HeadlineNumber:
    speed_up, name = _speed_up(content), "faster than the teacher"
    if speed_up is None:
        return HeadlineNumber(_NOT_MEASURED, name, "pytest --benchmark-only measures it")
    return HeadlineNumber(times(speed_up.factor), name, _speed_note(content, speed_up))


def _size_number(content: ReportContent) -> HeadlineNumber:
    models, ratio, name = content.evaluation.models, _size_ratio(content), "smaller than the teacher"
    served = models[content.served_model]
    if ratio is None:
        return HeadlineNumber(_NOT_MEASURED, name, f"the teacher is not evaluated; {megabytes(served.size_bytes)} on disk")
    note = f"{megabytes(served.size_bytes)} instead of {megabytes(models[content.evaluation.teacher].size_bytes)} on disk"
    return HeadlineNumber(times(ratio), name, note)


def _speed_up(content: ReportContent) -> _SpeedUp | None:
    """Compare the times of one request.

    The teacher is taken in ONNX Runtime where that was timed, so that the runtime's gain does not count as distillation's.
    """
    if content.benchmarks is None:
        return None
    student = content.benchmarks.model(f"student-onnx-{content.artefact.metrics['precision']}")
    teacher = content.benchmarks.model("teacher-onnx") or content.benchmarks.model("teacher-torch")
    if student is None or teacher is None:
        return None
    return _SpeedUp(student.p50_ms, teacher.p50_ms)


def _speed_note(content: ReportContent, speed_up: _SpeedUp) -> str:
    assert content.benchmarks is not None
    note = f"{milliseconds(speed_up.student_ms)} instead of {milliseconds(speed_up.teacher_ms)} ms a request, one thread"
    if content.benchmarks.model("teacher-onnx") is None:
        return f"{note}; student in ONNX Runtime, teacher in PyTorch"
    eager = content.benchmarks.model("teacher-torch")
    against_eager = "" if eager is None else f"; {times(eager.p50_ms / speed_up.student_ms)} against the teacher in PyTorch"
    return f"{note}, both in ONNX Runtime{against_eager}"


def _size_ratio(content: ReportContent) -> float | None:
    """Bytes of the teacher for each byte of the served student; None where the teacher is not evaluated."""
    teacher = content.evaluation.models.get(content.evaluation.teacher)
    return None if teacher is None else teacher.size_bytes / content.evaluation.models[content.served_model].size_bytes
