"""Which figures a report has, and from which numbers; where there are none, there is no figure."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from distilrec.report.benchmark_file import ScaleRow
from distilrec.report.collect import Facts
from distilrec.report.judgement import Interval
from distilrec.report.names import SERVED, hop_of, look
from distilrec.report.plots import Bar, Point, Series, Spread, intervals, lines, pareto, spreads


class Figures(NamedTuple):
    """SVG; None where nothing was measured."""

    pareto: str | None
    slices: str | None
    spreads: str | None
    throughput: str | None
    scale: tuple[tuple[str, str], ...]
    """Captions and figures."""
    load: str | None


def draw(facts: Facts) -> Figures:
    """All figures."""
    points = list(pareto_points(facts))
    rows = [
        Bar(s.name, "harmed" if s.gain.clear and s.gain.mean < 0 else "distilled", s.retention, f"({s.users:,})")
        for s in facts.judgement.slices
        if s.retention is not None
    ]
    return Figures(
        pareto(points, facts.judgement.metric) if len(points) > 1 else None,
        intervals(rows, "Kept of the teacher by group of users", "share of the teacher's NDCG, 95 % interval", 1.0)
        if rows
        else None,
        _spreads(facts),
        _throughput(facts),
        tuple(_scale(facts)),
        _load(facts),
    )


def pareto_points(facts: Facts) -> Iterator[Point]:
    """Models whose ranking was judged and whose request was timed: by the benchmarks, or else by the export."""
    judgement = facts.judgement
    if facts.benchmarks is None:
        for precision, found in facts.export["precisions"].items():
            hop = judgement.hops.get(f"distilled, ONNX {precision.upper()}")
            if hop is not None and "p50_ms" in found:
                label, family, shape = look(f"distilled-onnx-{precision}")
                yield Point(label, family, shape, found["p50_ms"], hop.quality)
        return
    for row in facts.benchmarks.models:
        if row.batch == 1 and row.ndcg is not None and hop_of(judgement, row.model) in judgement.hops:
            label, family, shape = look(row.model)
            yield Point(label, family, shape, row.p50_ms, Interval(row.ndcg, row.ndcg_low, row.ndcg_high))


def _spreads(facts: Facts) -> str | None:
    timed = [row for row in facts.benchmarks.models if row.batch == 1] if facts.benchmarks else []
    rows = [
        Spread(
            look(r.model).label, look(r.model).family, r.low_ms, r.p50_ms, r.p90_ms if r.p90_ms is not None else r.p50_ms, r.p99_ms
        )
        for r in timed
    ]
    return spreads(rows, "How long one request takes") if rows else None


def _throughput(facts: Facts) -> str | None:
    served = facts.benchmarks.serving if facts.benchmarks else ()
    series = []
    for model in dict.fromkeys(row.model for row in served):
        points = tuple(sorted((float(row.concurrency), row.requests_per_s) for row in served if row.model == model))
        if len(points) > 1:
            label, family, shape = SERVED.get(model, look(model))
            series.append(Series(label, family, points, shape=shape))
    if not series:
        return None
    return lines(series, "Throughput of the live server", "requests in flight (logarithmic)", "requests a second")


def _scale(facts: Facts) -> Iterator[tuple[str, str]]:
    rows = list(facts.benchmarks.scale) if facts.benchmarks else []
    histories = sorted({row.history for row in rows})
    for batch in sorted({row.batch for row in rows}):
        of_batch = [row for row in rows if row.batch == batch and row.history == _usual(rows)]
        if len({row.items for row in of_batch}) > 1:
            yield _growth(of_batch, f"Cost by catalogue, batch {batch}", "items (logarithmic)", lambda row: row.items)
    by_history = [row for row in rows if row.batch == 1 and row.items == 100_000]
    if len(histories) > 1 and by_history:
        yield _growth(by_history, "Cost by history, 100,000 items", "items of the history (logarithmic)", lambda row: row.history)
    middle = [row for row in rows if row.items == 100_000 and row.history == _usual(rows)]
    if len({row.batch for row in middle}) > 1:
        yield _growth(middle, "Cost by batch, 100,000 items", "requests in a batch (logarithmic)", lambda row: row.batch)


def _usual(rows: list[ScaleRow]) -> int:
    """The history length that most rows have."""
    return max({row.history for row in rows}, key=lambda length: sum(row.history == length for row in rows))


def _growth(rows: list[ScaleRow], title: str, label: str, by: Callable[[ScaleRow], int]) -> tuple[str, str]:
    """Caption and figure: time of each precision, and its limit."""
    series = []
    for precision, shape in (("fp32", "square"), ("int8", "triangle")):
        own = sorted((row for row in rows if row.precision == precision), key=by)
        if own:
            family = "distilled" if precision == "fp32" else "engine"
            series.append(Series(precision.upper(), family, tuple((by(row), row.p50_ms) for row in own), shape=shape))
            series.append(Series(f"limit {precision.upper()}", family, tuple((by(row), row.limit_ms) for row in own), dashed=True))
    return title, lines(series, title, label, "milliseconds, p50 (logarithmic)")


def _load(facts: Facts) -> str | None:
    """Latency by rate, where several rates were tried."""
    probes = (facts.load or {}).get("search", {}).get("probes", [])
    series = []
    for name, family, shape in (("p50_ms", "distilled", "square"), ("p99_ms", "teacher", "circle")):
        found = sorted((p["rate_per_s"], p["latency"][name]) for p in probes if p["latency"].get(name) is not None)
        if len(found) > 1:
            series.append(Series(name.removesuffix("_ms"), family, tuple(found), shape=shape))
    if not series:
        return None
    return lines(series, "Latency by rate of requests", "requests a second (logarithmic)", "milliseconds (logarithmic)")
