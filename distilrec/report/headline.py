"""What a reader should know after a minute: a sentence and three figures, made from the numbers."""

from typing import NamedTuple

from distilrec.report.collect import Facts
from distilrec.report.names import megabytes, milliseconds, number_with_interval, percent, share_with_interval, times


class Figure(NamedTuple):
    """A number in large type."""

    value: str
    name: str
    note: str


_NOT_MEASURED = "not measured"


def sentence(facts: Facts) -> str:
    """What was kept and what was gained, in one plain sentence."""
    judgement = facts.judgement
    retention = judgement.hops[facts.served].retention
    precision = facts.artefact.metrics["precision"].upper()
    kept = (
        "cannot be compared with its teacher"
        if retention is None
        else f"keeps {percent(retention.mean)} of its teacher's {judgement.metric}"
    )
    speed = _speed_up(facts)
    faster = "" if speed is None else f", answers {_fold(speed[0])} faster"
    smaller = _size_ratio(facts)
    size = f" and takes {percent(1 / smaller)} of its bytes"
    return f"The student that is served ({precision}) {kept}{faster}{size}."


def figures(facts: Facts) -> tuple[Figure, Figure, Figure]:
    """Retention, speed-up and size."""
    judgement = facts.judgement
    served, teacher = judgement.hops[facts.served], judgement.hops[judgement.teacher]
    kept = Figure(_NOT_MEASURED, "kept of the teacher", "the teacher got nothing right")
    if served.retention is not None:
        over = f"{judgement.users:,} {judgement.split} users, {_seeds(len(judgement.seeds))}"
        note = f"of {judgement.metric}; 95 % interval {_range(share_with_interval(served.retention))}; {over}"
        kept = Figure(percent(served.retention.mean), "kept of the teacher", note)
    speed = _speed_up(facts)
    faster = Figure(_NOT_MEASURED, "faster than the teacher", "pytest --benchmark-only measures it")
    if speed is not None:
        factor, student_ms, teacher_ms = speed
        faster = Figure(times(factor), "faster than the teacher", _speed_note(facts, student_ms, teacher_ms))
    note = f"{megabytes(served.size_bytes)} instead of {megabytes(teacher.size_bytes)} on disk"
    return kept, faster, Figure(times(_size_ratio(facts)), "smaller than the teacher", note)


def findings(facts: Facts) -> list[str]:
    """What distillation did and whom it harmed, with what these users can and cannot show."""
    judgement = facts.judgement
    gain = judgement.hops[judgement.distilled].gain
    assert gain is not None  # the distilled student is not the undistilled one
    shown = "a clear difference" if gain.clear else "which these users cannot tell from no difference"
    found = [
        f"Against the same student trained without a teacher: {number_with_interval(gain, '+')} {judgement.metric}, {shown}."
        f" The intervals are over users{'' if len(judgement.seeds) > 1 else '; another seed was not tried'}."
    ]
    worse = [s.name for s in judgement.slices if s.gain.clear and s.gain.mean < 0]
    better = [s.name for s in judgement.slices if s.gain.clear and s.gain.mean > 0]
    count = len(judgement.slices)
    if count:
        lost = f"{len(worse)} clearly worse ({', '.join(worse)})" if worse else "none clearly worse"
        found.append(
            f"Of {count} groups of users, {len(better) or 'none'} ranked clearly better than without a teacher, {lost}."
            f" By chance alone about {count * 0.025:.1f} would be clearly worse."
        )
    found.append(f"Served precision: {facts.export['verdict']['reason']}.")
    return found


def _speed_up(facts: Facts) -> tuple[float, float, float] | None:
    """How many times faster a request is than the teacher's, and both times in milliseconds; out of one run.

    Against the teacher in ONNX Runtime, too, where that was timed: what the runtime buys is not distillation's doing.
    """
    if facts.benchmarks is None:
        return None
    student = facts.benchmarks.model(f"distilled-onnx-{facts.artefact.metrics['precision']}")
    teacher = facts.benchmarks.model("teacher-onnx") or facts.benchmarks.model("teacher-torch")
    if student is None or teacher is None:
        return None
    return teacher.p50_ms / student.p50_ms, student.p50_ms, teacher.p50_ms


def _speed_note(facts: Facts, student_ms: float, teacher_ms: float) -> str:
    assert facts.benchmarks is not None
    note = f"{milliseconds(student_ms)} instead of {milliseconds(teacher_ms)} ms a request, one thread"
    if facts.benchmarks.model("teacher-onnx") is None:
        return f"{note}; student in ONNX Runtime, teacher in PyTorch"
    eager = facts.benchmarks.model("teacher-torch")
    beside = "" if eager is None else f"; {times(eager.p50_ms / student_ms)} against the teacher in PyTorch"
    return f"{note}, both in ONNX Runtime{beside}"


def _size_ratio(facts: Facts) -> float:
    hops = facts.judgement.hops
    return hops[facts.judgement.teacher].size_bytes / hops[facts.served].size_bytes


def _fold(factor: float) -> str:
    return f"{times(factor).removesuffix('x')} times"


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def _range(shares: str) -> str:
    return shares.partition("[")[2].rstrip("]").replace(", ", " to ") or "unknown"
