"""The report's figures and the numbers that each is drawn from; without numbers there is no figure."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from distilrec.report.benchmark_file import ScaleBenchmark
from distilrec.report.content import ReportContent
from distilrec.report.evaluation_file import MeanWithInterval, exported_model_name
from distilrec.report.model_styles import SERVED_MODEL_STYLES, evaluated_model_name, model_style
from distilrec.report.plots import (
    IntervalRow,
    LatencyRow,
    LineSeries,
    ModelPoint,
    interval_plot,
    latency_plot,
    line_plot,
    pareto_plot,
)

_FIXED_CATALOGUE = 100_000
"""Catalogue size at which ``benchmarks/test_scale.py`` varies the history length and the batch size."""

_SERIES_OF_PRECISIONS = {"fp32": ("distilled", "square"), "int8": ("engine", "triangle")}
"""Family and shape of a precision's line in the figures of growth."""


class Figures(NamedTuple):
    """Figures as SVG; None where nothing was measured."""

    pareto: str | None
    slices: str | None
    latency: str | None
    throughput: str | None
    scale: tuple[tuple[str, str], ...]
    """Captions and figures."""
    load: str | None


def draw_figures(content: ReportContent) -> Figures:
    """Draw all figures."""
    points = list(pareto_points(content))
    return Figures(
        pareto_plot(points, content.evaluation.metric) if len(points) > 1 else None,
        _slices_figure(content),
        _latency_figure(content),
        _throughput_figure(content),
        tuple(_scale_figures(content)),
        _load_figure(content),
    )


def pareto_points(content: ReportContent) -> Iterator[ModelPoint]:
    """Yield the models that were both evaluated and timed; the times are the export's where there are no benchmarks."""
    evaluation = content.evaluation
    if content.benchmarks is None:
        for precision, measured in content.export["precisions"].items():
            model = evaluation.models.get(exported_model_name(precision))
            if model is not None and "p50_ms" in measured:
                label, family, shape = model_style(f"student-onnx-{precision}")
                yield ModelPoint(label, family, shape, measured["p50_ms"], model.quality)
        return
    for row in content.benchmarks.models:
        if row.batch == 1 and row.ndcg is not None and evaluated_model_name(evaluation, row.model) in evaluation.models:
            label, family, shape = model_style(row.model)
            yield ModelPoint(label, family, shape, row.p50_ms, MeanWithInterval(row.ndcg, row.ndcg_low, row.ndcg_high))


def _slices_figure(content: ReportContent) -> str | None:
    rows = [
        IntervalRow(one.name, "regressed" if one.clear_regression else "distilled", one.retention, f"({one.users:,})")
        for one in content.evaluation.slices
        if one.retention is not None
    ]
    if not rows:
        return None
    return interval_plot(rows, "Kept of the teacher by group of users", "share of the teacher's NDCG, 95 % interval", 1.0)


def _latency_figure(content: ReportContent) -> str | None:
    timed = [row for row in content.benchmarks.models if row.batch == 1] if content.benchmarks else []
    rows = []
    for row in timed:
        label, family, _ = model_style(row.model)
        p90_ms = row.p50_ms if row.p90_ms is None else row.p90_ms
        rows.append(LatencyRow(label, family, row.low_ms, row.p50_ms, p90_ms, row.p99_ms))
    return latency_plot(rows, "How long one request takes") if rows else None


def _throughput_figure(content: ReportContent) -> str | None:
    rows = content.benchmarks.serving if content.benchmarks else ()
    series = []
    for model in dict.fromkeys(row.model for row in rows):
        points = tuple(sorted((float(row.concurrency), row.requests_per_s) for row in rows if row.model == model))
        if len(points) > 1:
            label, family, shape = SERVED_MODEL_STYLES.get(model, model_style(model))
            series.append(LineSeries(label, family, points, shape=shape))
    if not series:
        return None
    return line_plot(series, "Throughput of the live server", "requests in flight (logarithmic)", "requests a second (logarithmic)")


def _scale_figures(content: ReportContent) -> Iterator[tuple[str, str]]:
    """Yield captions and figures of request time by catalogue size, by history length and by batch size."""
    rows = list(content.benchmarks.scale) if content.benchmarks else []
    histories = sorted({row.history for row in rows})
    for batch in sorted({row.batch for row in rows}):
        by_catalogue = [row for row in rows if row.batch == batch and row.history == _most_frequent_history(rows)]
        if len({row.items for row in by_catalogue}) > 1:
            yield _growth_figure(by_catalogue, f"Cost by catalogue, batch {batch}", "items (logarithmic)", lambda row: row.items)
    by_history = [row for row in rows if row.batch == 1 and row.items == _FIXED_CATALOGUE]
    if len(histories) > 1 and by_history:
        title = f"Cost by history, {_FIXED_CATALOGUE:,} items"
        yield _growth_figure(by_history, title, "items of the history (logarithmic)", lambda row: row.history)
    by_batch = [row for row in rows if row.items == _FIXED_CATALOGUE and row.history == _most_frequent_history(rows)]
    if len({row.batch for row in by_batch}) > 1:
        title = f"Cost by batch, {_FIXED_CATALOGUE:,} items"
        yield _growth_figure(by_batch, title, "requests in a batch (logarithmic)", lambda row: row.batch)


def _most_frequent_history(rows: list[ScaleBenchmark]) -> int:
    """Return the history length that most rows have."""
    return max({row.history for row in rows}, key=lambda length: sum(row.history == length for row in rows))


def _growth_figure(rows: list[ScaleBenchmark], title: str, label: str, by: Callable[[ScaleBenchmark], int]) -> tuple[str, str]:
    """Return caption and figure: the time of each precision, and its limit as a dashed line."""
    series = []
    for precision, (family, shape) in _SERIES_OF_PRECISIONS.items():
        own = sorted((row for row in rows if row.precision == precision), key=by)
        if own:
            times = tuple((by(row), row.p50_ms) for row in own)
            limits = tuple((by(row), row.limit_ms) for row in own)
            series.append(LineSeries(precision.upper(), family, times, shape=shape))
            series.append(LineSeries(f"limit {precision.upper()}", family, limits, dashed=True))
    return title, line_plot(series, title, label, "milliseconds, p50 (logarithmic)")


def _load_figure(content: ReportContent) -> str | None:
    """Draw latency by request rate, where several rates were tried."""
    probes = (content.load or {}).get("search", {}).get("probes", [])
    series = []
    for name, family, shape in (("p50_ms", "distilled", "square"), ("p99_ms", "teacher", "circle")):
        points = sorted((p["rate_per_s"], p["latency"][name]) for p in probes if p["latency"].get(name) is not None)
        if len(points) > 1:
            series.append(LineSeries(name.removesuffix("_ms"), family, tuple(points), shape=shape))
    if not series:
        return None
    return line_plot(series, "Latency by rate of requests", "requests a second (logarithmic)", "milliseconds (logarithmic)")
