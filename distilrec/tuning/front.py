"""The Pareto front: trials of which no other has a better NDCG@10 and a lower latency."""

from collections.abc import Sequence
from dataclasses import dataclass

import optuna

from distilrec.core.errors import TuningError
from distilrec.core.tables import markdown_table
from distilrec.tuning.space import Drawn, describe
from distilrec.tuning.study import failures


@dataclass(frozen=True)
class ParetoTrial:
    """One trial of the front."""

    number: int
    ndcg: float
    p50_ms: float
    parameters: int
    drawn: Drawn


def pareto_front(study: optuna.Study) -> list[ParetoTrial]:
    """Trials of the front, fastest first.

    Raises:
        TuningError: No trial has a result.
    """
    entries = [ParetoTrial(t.number, t.values[0], t.values[1], t.user_attrs["parameters"], t.params) for t in study.best_trials]
    if not entries:
        reasons = failures(study)
        said = f"all {len(reasons)} trials failed, the last with {reasons[-1]}" if reasons else "no trial has ended"
        raise TuningError(f"tune: {said}; a larger --trials goes on")
    return sorted(entries, key=lambda entry: entry.p50_ms)


def choose(front: Sequence[ParetoTrial], latency_ms: float | None = None) -> ParetoTrial:
    """The trial with the best NDCG@10; with ``latency_ms``, of those at or below it.

    Raises:
        TuningError: No trial is that fast.
    """
    fast = [entry for entry in front if latency_ms is None or entry.p50_ms <= latency_ms]
    if not fast:
        raise TuningError(f"found no trial at or below {latency_ms} ms, the fastest needs {front[0].p50_ms:.3f} ms")
    return max(fast, key=lambda entry: entry.ndcg)


def front_table(front: Sequence[ParetoTrial]) -> str:
    """The front as a Markdown table."""
    headings = ["trial", "NDCG@10", "p50 ms, one request", "parameters", "settings"]
    rows = [[str(e.number), f"{e.ndcg:.4f}", f"{e.p50_ms:.3f}", f"{e.parameters:,}", describe(e.drawn)] for e in front]
    return markdown_table(headings, rows, "|---:|---:|---:|---:|---|")
