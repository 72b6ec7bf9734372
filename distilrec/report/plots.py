"""The report's figures, as SVG; pure functions from numbers to text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from distilrec.report.judgement import Interval
from distilrec.report.svg import (
    CHARACTER,
    WIDTH,
    Scale,
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
_AXIS_HEIGHT = 40


@dataclass(frozen=True)
class Point:
    """A model in the plot of quality against latency."""

    label: str
    family: str
    """Which colour: teacher, undistilled, distilled."""
    shape: str
    """Which mark: circle, square, triangle, diamond."""
    ms: float
    quality: Interval


def pareto(points: Sequence[Point], metric: str) -> str:
    """Quality against latency; the line joins the models that no other beats in both."""
    bottom = 330
    x = log_scale([p.ms for p in points], _LEFT, _RIGHT)
    ends = [end for p in points for end in (p.quality.mean, p.quality.low, p.quality.high) if end is not None]
    y = linear_scale(ends, bottom, _TOP)
    best = front(points)
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


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other is both as fast as and better than, the fastest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.ms, -p.quality.mean)):
        if not best or point.quality.mean > best[-1].quality.mean:
            best.append(point)
    return best


def _labels(points: Sequence[Point], x: Scale, y: Scale) -> Iterator[str]:
    """Each label where it covers neither a mark nor another label, as near to its mark as that allows, with a line to it."""
    taken = [(x(p.ms) - 7, y(p.quality.mean) - 7, x(p.ms) + 7, y(p.quality.mean) + 7) for p in points]
    for p in sorted(points, key=lambda p: -p.ms):
        at, height, width = x(p.ms), y(p.quality.mean), len(p.label) * CHARACTER
        free = ((a, b) for a, b in _places(at, height, width) if _inside(b) and not any(_overlap(b, t) for t in taken))
        anchor, box = next(free, ("", None))
        if box is None:
            continue  # the table below the figure names it
        taken.append(box)
        if abs((box[1] + box[3]) / 2 - height) > 20:
            near = min(max(at, box[0]), box[2])
            yield element("line", x1=at, y1=height, x2=near, y2=box[3] if box[3] < height else box[1], class_="leader")
        place = {"start": box[0], "end": box[2], "middle": at}[anchor]
        yield text(p.label, place, box[3] - 3, text_anchor=anchor, class_=f"name of-{p.family}")


_Box = tuple[float, float, float, float]


def _places(at: float, height: float, width: float) -> Iterator[tuple[str, _Box]]:
    """Where a label can stand, the nearest first, and which of its ends is at its place."""
    for distance in range(0, 190, 15):
        for anchor, left in (("start", at + 9), ("end", at - 9 - width), ("middle", at - width / 2)):
            for middle in (height - distance, height + distance):
                yield anchor, (left, middle - 7, left + width, middle + 7)


def _inside(box: _Box) -> bool:
    return box[0] >= _LEFT and box[2] <= WIDTH and box[1] >= _TOP - 8 and box[3] <= 330


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@dataclass(frozen=True)
class Bar:
    """A row of a plot of intervals."""

    label: str
    family: str
    value: Interval
    note: str = ""
    """Stands behind the label, whole also where that is cut."""


def intervals(rows: Sequence[Bar], title: str, label: str, reference: float) -> str:
    """One row for each label: a mark and its interval, beside a line that stands for no difference."""
    left, top, row_height = 188, 12, 19
    bottom = top + row_height * len(rows) + 6
    ends = [end for row in rows for end in (row.value.mean, row.value.low, row.value.high) if end is not None]
    x = linear_scale([*ends, reference], left, _RIGHT)
    parts = [
        x_axis(x, bottom, top, label),
        element("line", x1=x(reference), x2=x(reference), y1=top, y2=bottom, class_="reference"),
    ]
    for place, row in enumerate(rows):
        height, value = top + row_height * (place + 0.6), row.value
        parts.append(
            text(
                f"{_cut(row.label, 24 - len(row.note))} {row.note}".strip(), left - 8, height + 4, text_anchor="end", class_="tick"
            )
        )
        if value.low is not None and value.high is not None:
            parts.append(element("line", x1=x(value.low), x2=x(value.high), y1=height, y2=height, class_=f"range of-{row.family}"))
        parts.append(mark("circle", x(value.mean), height, f"mark of-{row.family}", f"{row.label}: {value.mean:.4f}"))
    words = "; ".join(f"{row.label} {row.value.mean:.4g}" for row in rows)
    return figure(bottom + _AXIS_HEIGHT, title, f"{label}: {words}.", *parts)


@dataclass(frozen=True)
class Spread:
    """How long the requests of a model took."""

    label: str
    family: str
    low_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float | None
    """None where so few requests were timed that there is none."""


def spreads(rows: Sequence[Spread], title: str) -> str:
    """One row for each model: from the fastest request to p99, thick up to p90, a mark at p50."""
    left, top, row_height = 152, 12, 24
    bottom = top + row_height * len(rows) + 4
    x = log_scale([end for r in rows for end in (r.low_ms, r.p50_ms, r.p99_ms or r.p90_ms)], left, _RIGHT)
    parts = [x_axis(x, bottom, top, "milliseconds of one request (logarithmic)")]
    for place, row in enumerate(rows):
        height = top + row_height * (place + 0.55)
        last = row.p99_ms or row.p90_ms
        parts.append(text(_cut(row.label, 21), left - 8, height + 4, text_anchor="end", class_="tick"))
        parts.append(element("line", x1=x(row.low_ms), x2=x(last), y1=height, y2=height, class_=f"range of-{row.family}"))
        parts.append(element("line", x1=x(row.low_ms), x2=x(row.p90_ms), y1=height, y2=height, class_=f"thick of-{row.family}"))
        parts.append(mark("circle", x(row.p50_ms), height, f"mark of-{row.family}", f"{row.label}: p50 {row.p50_ms:.3g} ms"))
    words = "; ".join(f"{row.label} p50 {row.p50_ms:.3g} ms" for row in rows)
    return figure(bottom + _AXIS_HEIGHT, title, f"From the fastest request to the 99th of 100: {words}.", *parts)


@dataclass(frozen=True)
class Series:
    """A line."""

    label: str
    family: str
    points: tuple[tuple[float, float], ...]
    dashed: bool = False
    shape: str = "circle"


def lines(series: Sequence[Series], title: str, x_label: str, y_label: str, *, log_y: bool = True) -> str:
    """Lines over a logarithmic axis, with a legend below; a dashed line is a limit and has no marks."""
    bottom = 230
    x = log_scale([px for one in series for px, _ in one.points], _LEFT, _RIGHT)
    heights = [py for one in series for _, py in one.points]
    y = log_scale(heights, bottom, _TOP) if log_y else linear_scale(heights, bottom, _TOP, from_zero=True)
    parts = [y_axis(y, _LEFT, _RIGHT, y_label), x_axis(x, bottom, _TOP, x_label)]
    for one in series:
        path = "M" + " L".join(f"{x(px):.1f},{y(py):.1f}" for px, py in one.points)
        parts.append(element("path", d=path, class_=f"{'dashed' if one.dashed else 'line'} of-{one.family}"))
        if not one.dashed:
            notes = [(px, py, f"{one.label}: {py:.4g} at {px:g}") for px, py in one.points]
            parts += [mark(one.shape, x(px), y(py), f"mark of-{one.family}", note) for px, py, note in notes]
    legend, height = _legend(series, bottom + 56)
    words = "; ".join(f"{one.label}: " + ", ".join(f"{py:.4g} at {px:g}" for px, py in one.points) for one in series)
    return figure(height, title, f"{y_label} by {x_label}. {words}.", *parts, *legend)


def _legend(series: Sequence[Series], top: float) -> tuple[list[str], float]:
    """Names beside a piece of their line, in as many rows as they need; also where it ends."""
    parts, left, height = [], 12.0, top
    for one in series:
        width = 34 + len(one.label) * CHARACTER + 14
        if left + width > WIDTH and left > 12:
            left, height = 12.0, height + 19
        line = "dashed" if one.dashed else "line"
        parts.append(element("path", d=f"M{left:.1f},{height - 4:.1f} h24", class_=f"{line} of-{one.family}"))
        if not one.dashed:
            parts.append(mark(one.shape, left + 12, height - 4, f"mark of-{one.family}", one.label))
        parts.append(text(one.label, left + 30, height, class_="tick"))
        left += width
    return parts, height + 10


def _cut(label: str, length: int) -> str:
    return label if len(label) <= length else label[: length - 1] + "…"
