"""Plots as SVG: pure functions from numbers to text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from distilrec.report.evaluation_file import MeanWithInterval
from distilrec.report.svg import (
    CHARACTER,
    WIDTH,
    AxisScale,
    element,
    figure,
    linear_scale,
    log_scale,
    mark,
    text,
    x_axis,
    y_axis,
)

_LEFT, _RIGHT, _TOP = 52, WIDTH - 12, 28
"""Edges of a plot with a y axis: room for the ticks' numbers to the left, and for the y axis' label above."""
_AXIS_HEIGHT = 40
"""Room for ticks and label below a plot."""
_PARETO_BOTTOM, _LINES_BOTTOM = 330, 230
_INTERVALS_LEFT, _LATENCY_LEFT, _ROWS_TOP = 188, 152, 12
"""Edges of the plots of rows: room for a row's label to the left."""
_INTERVALS_LABEL, _LATENCY_LABEL = 24, 21
"""Characters of a row's label that fit into that room."""
_TEXT_HALF_HEIGHT = 7
"""Half of the height of a label's line, and about half the size of a mark."""
_LABEL_STEP, _LABEL_REACH = 15, 190
"""A label that finds no free place is tried a line further from its mark, up to this distance."""
_LEADER_FROM = 20
"""Distance from which a line connects a label with its mark."""
_LEGEND_TOP, _LEGEND_LEFT, _LEGEND_LINE = 56, 12.0, 19
"""Place of the legend below the plot, its left edge, and the height of its lines."""
_LEGEND_SAMPLE, _LEGEND_GAP = 34, 14
"""Widths of a legend's piece of line, and of the gap to the next entry."""


@dataclass(frozen=True)
class ModelPoint:
    """A model in the plot of quality against latency."""

    label: str
    family: str
    """Family of models, which decides the colour: teacher, undistilled, distilled or engine."""
    shape: str
    """Mark: circle, square, triangle or diamond."""
    ms: float
    """Median time of one request."""
    quality: MeanWithInterval


def pareto_plot(points: Sequence[ModelPoint], metric: str) -> str:
    """Plot quality against latency; a dotted line joins the Pareto front."""
    bottom = _PARETO_BOTTOM
    x = log_scale([p.ms for p in points], _LEFT, _RIGHT)
    ends = [end for p in points for end in (p.quality.mean, p.quality.low, p.quality.high) if end is not None]
    y = linear_scale(ends, bottom, _TOP)
    best = pareto_front(points)
    steps = "".join(f" H{x(p.ms):.1f} V{y(p.quality.mean):.1f}" for p in best[1:])
    line = f"M{x(best[0].ms):.1f},{y(best[0].quality.mean):.1f}{steps} H{_RIGHT}"
    whiskers = [
        element("line", x1=x(p.ms), x2=x(p.ms), y1=y(p.quality.low), y2=y(p.quality.high), class_=f"whisker of-{p.family}")
        for p in points
        if p.quality.low is not None and p.quality.high is not None
    ]
    marks = [
        mark(p.shape, x(p.ms), y(p.quality.mean), f"mark of-{p.family}", f"{p.label}: {p.quality.mean:.4f}, {p.ms:.3g} ms")
        for p in points
    ]
    words = ", ".join(f"{p.label} {p.quality.mean:.4f} at {p.ms:.3g} ms" for p in points)
    return figure(
        bottom + _AXIS_HEIGHT,
        "Quality against latency",
        f"{metric} of each model against milliseconds of a request: {words}. Up and to the left is better.",
        y_axis(y, _LEFT, _RIGHT, f"{metric}, 95 % interval"),
        x_axis(x, bottom, _TOP, "milliseconds of one request, p50 (logarithmic)"),
        element("path", d=line, class_="front"),
        *whiskers,
        *marks,
        *_labels(points, x, y),
    )


def pareto_front(points: Sequence[ModelPoint]) -> list[ModelPoint]:
    """Return the points for which no other model is both faster and better, the fastest first."""
    best: list[ModelPoint] = []
    for point in sorted(points, key=lambda p: (p.ms, -p.quality.mean)):
        if not best or point.quality.mean > best[-1].quality.mean:
            best.append(point)
    return best


def _labels(points: Sequence[ModelPoint], x: AxisScale, y: AxisScale) -> Iterator[str]:
    """Draw each label near its mark where it covers no mark and no other label; a line connects a distant label with its mark.

    A label that finds no free place is left out; the table below the figure names the model.
    """
    half = _TEXT_HALF_HEIGHT
    taken = [(x(p.ms) - half, y(p.quality.mean) - half, x(p.ms) + half, y(p.quality.mean) + half) for p in points]
    for p in sorted(points, key=lambda p: -p.ms):
        across, height, width = x(p.ms), y(p.quality.mean), len(p.label) * CHARACTER
        free = ((a, b) for a, b in _label_places(across, height, width) if _inside(b) and not any(_overlap(b, t) for t in taken))
        anchor, box = next(free, ("", None))
        if box is None:
            continue
        taken.append(box)
        if abs((box[1] + box[3]) / 2 - height) > _LEADER_FROM:
            near = min(max(across, box[0]), box[2])
            yield element("line", x1=across, y1=height, x2=near, y2=box[3] if box[3] < height else box[1], class_="leader")
        place = {"start": box[0], "end": box[2], "middle": across}[anchor]
        yield text(p.label, place, box[3] - 3, text_anchor=anchor, class_=f"name of-{p.family}")


_Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge."""


def _label_places(across: float, height: float, width: float) -> Iterator[tuple[str, _Box]]:
    """Yield possible places of a label, the nearest first: SVG's text-anchor, and the box that the label fills."""
    offset = _TEXT_HALF_HEIGHT + 2
    for distance in range(0, _LABEL_REACH, _LABEL_STEP):
        for anchor, left in (("start", across + offset), ("end", across - offset - width), ("middle", across - width / 2)):
            for middle in (height - distance, height + distance):
                yield anchor, (left, middle - _TEXT_HALF_HEIGHT, left + width, middle + _TEXT_HALF_HEIGHT)


def _inside(box: _Box) -> bool:
    return box[0] >= _LEFT and box[2] <= WIDTH and box[1] >= _TOP - 8 and box[3] <= _PARETO_BOTTOM


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@dataclass(frozen=True)
class IntervalRow:
    """A row of a plot of intervals: a label with a mean and its interval."""

    label: str
    family: str
    value: MeanWithInterval
    note: str = ""
    """Text after the label; it is shown in full even where the label is cut."""


def interval_plot(rows: Sequence[IntervalRow], title: str, label: str, reference: float) -> str:
    """Plot a mark and an interval in each row, and a vertical line at ``reference``, which stands for no difference."""
    left, top, row_height = _INTERVALS_LEFT, _ROWS_TOP, 19
    bottom = top + row_height * len(rows) + 6
    ends = [end for row in rows for end in (row.value.mean, row.value.low, row.value.high) if end is not None]
    x = linear_scale([*ends, reference], left, _RIGHT)
    parts = [
        x_axis(x, bottom, top, label),
        element("line", x1=x(reference), x2=x(reference), y1=top, y2=bottom, class_="reference"),
    ]
    for place, row in enumerate(rows):
        height, value = top + row_height * (place + 0.6), row.value
        name = f"{_cut(row.label, _INTERVALS_LABEL - len(row.note))} {row.note}".strip()
        parts.append(text(name, left - 8, height + 4, text_anchor="end", class_="tick"))
        if value.low is not None and value.high is not None:
            parts.append(element("line", x1=x(value.low), x2=x(value.high), y1=height, y2=height, class_=f"range of-{row.family}"))
        parts.append(mark("circle", x(value.mean), height, f"mark of-{row.family}", f"{row.label}: {value.mean:.4f}"))
    words = "; ".join(f"{row.label} {row.value.mean:.4g}" for row in rows)
    return figure(bottom + _AXIS_HEIGHT, title, f"{label}: {words}.", *parts)


@dataclass(frozen=True)
class LatencyRow:
    """Quantiles of the times of one model's requests."""

    label: str
    family: str
    low_ms: float
    """Time of the fastest request."""
    p50_ms: float
    p90_ms: float
    p99_ms: float | None
    """None where too few requests were timed."""


def latency_plot(rows: Sequence[LatencyRow], title: str) -> str:
    """Plot a line from the fastest request to p99 in each row, thick up to p90, with a mark at p50."""
    left, top, row_height = _LATENCY_LEFT, _ROWS_TOP, 24
    bottom = top + row_height * len(rows) + 4
    x = log_scale([end for r in rows for end in (r.low_ms, r.p50_ms, r.p99_ms or r.p90_ms)], left, _RIGHT)
    parts = [x_axis(x, bottom, top, "milliseconds of one request (logarithmic)")]
    for place, row in enumerate(rows):
        height = top + row_height * (place + 0.55)
        last = row.p99_ms or row.p90_ms
        parts.append(text(_cut(row.label, _LATENCY_LABEL), left - 8, height + 4, text_anchor="end", class_="tick"))
        parts.append(element("line", x1=x(row.low_ms), x2=x(last), y1=height, y2=height, class_=f"range of-{row.family}"))
        parts.append(element("line", x1=x(row.low_ms), x2=x(row.p90_ms), y1=height, y2=height, class_=f"thick of-{row.family}"))
        parts.append(mark("circle", x(row.p50_ms), height, f"mark of-{row.family}", f"{row.label}: p50 {row.p50_ms:.3g} ms"))
    words = "; ".join(f"{row.label} p50 {row.p50_ms:.3g} ms" for row in rows)
    return figure(bottom + _AXIS_HEIGHT, title, f"From the fastest request to the 99th of 100: {words}.", *parts)


@dataclass(frozen=True)
class LineSeries:
    """A line of a plot."""

    label: str
    family: str
    points: tuple[tuple[float, float], ...]
    """x and y of each point, by rising x."""
    dashed: bool = False
    shape: str = "circle"


def line_plot(series: Sequence[LineSeries], title: str, x_label: str, y_label: str) -> str:
    """Plot lines over two logarithmic axes, with a legend below; a dashed line is a limit and has no marks."""
    bottom = _LINES_BOTTOM
    x = log_scale([px for one in series for px, _ in one.points], _LEFT, _RIGHT)
    y = log_scale([py for one in series for _, py in one.points], bottom, _TOP)
    parts = [y_axis(y, _LEFT, _RIGHT, y_label), x_axis(x, bottom, _TOP, x_label)]
    for one in series:
        path = "M" + " L".join(f"{x(px):.1f},{y(py):.1f}" for px, py in one.points)
        parts.append(element("path", d=path, class_=f"{'dashed' if one.dashed else 'line'} of-{one.family}"))
        if not one.dashed:
            notes = [(px, py, f"{one.label}: {py:.4g} at {px:g}") for px, py in one.points]
            parts += [mark(one.shape, x(px), y(py), f"mark of-{one.family}", note) for px, py, note in notes]
    legend, height = _legend(series, bottom + _LEGEND_TOP)
    words = "; ".join(f"{one.label}: " + ", ".join(f"{py:.4g} at {px:g}" for px, py in one.points) for one in series)
    return figure(height, title, f"{y_label} by {x_label}. {words}.", *parts, *legend)


def _legend(series: Sequence[LineSeries], top: float) -> tuple[list[str], float]:
    """Draw a piece of each line and its name, in as many rows as needed; returns the elements and the bottom of the legend."""
    parts, left, height = [], _LEGEND_LEFT, top
    for one in series:
        width = _LEGEND_SAMPLE + len(one.label) * CHARACTER + _LEGEND_GAP
        if left + width > WIDTH and left > _LEGEND_LEFT:
            left, height = _LEGEND_LEFT, height + _LEGEND_LINE
        line = "dashed" if one.dashed else "line"
        parts.append(element("path", d=f"M{left:.1f},{height - 4:.1f} h24", class_=f"{line} of-{one.family}"))
        if not one.dashed:
            parts.append(mark(one.shape, left + 12, height - 4, f"mark of-{one.family}", one.label))
        parts.append(text(one.label, left + 30, height, class_="tick"))
        left += width
    return parts, height + 10


def _cut(label: str, length: int) -> str:
    return label if len(label) <= length else label[: length - 1] + "…"
