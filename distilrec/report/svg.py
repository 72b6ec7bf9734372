"""SVG as text: elements, axis scales and axes, made by pure functions that escape all text.

Colours are CSS classes (such as ``of-teacher``). The page's style sheet defines them for light and dark mode.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 440
"""Width of every figure in SVG units; text stays readable when a phone shows the figure at three quarters of it."""

CHARACTER = 6.8
"""Approximate width of a label's character in SVG units, in the widest of the usual fonts."""

_ROOM = 0.08
"""Free room at both ends of a linear scale, as a share of the values' range."""
_LOGARITHMIC_ROOM = 1.35
"""Free room at both ends of a logarithmic scale, as a factor."""
_TICK_INTERVALS = 6
"""Number of intervals between ticks that a round step should come close to."""
_FEWEST_TICKS = 3
_TOLERANCE = 1e-9
"""Tolerance for a tick at the end of a scale, against rounding errors."""


def element(tag: str, *content: str, **attributes: str | float) -> str:
    """Return an element; an underscore in an attribute's name becomes a hyphen, and one at its end is dropped."""
    written = "".join(f' {name.rstrip("_").replace("_", "-")}="{_value(value)}"' for name, value in attributes.items())
    return f"<{tag}{written}>{''.join(content)}</{tag}>" if content else f"<{tag}{written}/>"


def text(words: str, x: float, y: float, **attributes: str | float) -> str:
    """Return a line of text."""
    return element("text", escape(words), x=x, y=y, **attributes)


def figure(height: float, title: str, description: str, *content: str) -> str:
    """Return a whole figure with a title and a description for screen readers."""
    name = re.sub(r"\W+", "-", title.lower()).strip("-")
    heads = element("title", escape(title), id=f"{name}-title") + element("desc", escape(description), id=f"{name}-desc")
    return element(
        "svg",
        heads,
        *content,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height:g}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )


def mark(shape: str, x: float, y: float, class_: str, note: str) -> str:
    """Return a mark of a shape (circle, square, triangle or diamond) with a note that appears under the mouse pointer."""
    tip = element("title", escape(note))
    if shape == "circle":
        return element("circle", tip, cx=x, cy=y, r=5, class_=class_)
    outlines: dict[str, list[tuple[float, float]]] = {
        "square": [(-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5)],
        "triangle": [(0, -6), (5.5, 4.5), (-5.5, 4.5)],
        "diamond": [(0, -6), (6, 0), (0, 6), (-6, 0)],
    }
    corners = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in outlines[shape])
    return element("polygon", tip, points=corners, class_=class_)


@dataclass(frozen=True)
class AxisScale:
    """A linear or logarithmic scale from values to coordinates."""

    low: float
    high: float
    start: float
    """Coordinate of ``low``."""
    end: float
    """Coordinate of ``high``."""
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the coordinate of a value; a value outside the scale lies at its edge."""
        low, high, at = (math.log(v) if self.logarithmic else v for v in (self.low, self.high, max(value, self.low)))
        return self.start + (self.end - self.start) * min(1.0, (at - low) / (high - low))

    def ticks(self) -> list[float]:
        """Return three to eight round values within the scale."""
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for digits in ((1,), (1, 3), (1, 2, 5)):
                within = [d * 10.0**power for power in decades for d in digits if self.low <= d * 10.0**power <= self.high]
                if len(within) >= _FEWEST_TICKS:
                    return within
        # A logarithmic scale of less than a decade has linear ticks, too.
        step = _round_step((self.high - self.low) / _TICK_INTERVALS)
        first = math.ceil(self.low / step - _TOLERANCE)
        return [i * step for i in range(first, math.floor(self.high / step + _TOLERANCE) + 1)]


def log_scale(values: Sequence[float], start: float, end: float) -> AxisScale:
    """Return a logarithmic scale with some room at both ends."""
    low, high = min(values), max(values)
    return AxisScale(low / _LOGARITHMIC_ROOM, high * _LOGARITHMIC_ROOM, start, end, logarithmic=True)


def linear_scale(values: Sequence[float], start: float, end: float) -> AxisScale:
    """Return a linear scale with some room at both ends."""
    low, high = min(values), max(values)
    room = (high - low or abs(high) or 1.0) * _ROOM
    return AxisScale(low - room, high + room, start, end)


def x_axis(scale: AxisScale, bottom: float, top: float, label: str) -> str:
    """Draw ticks, grid and label below a plot."""
    parts = []
    for value in scale.ticks():
        place = scale(value)
        parts.append(element("line", x1=place, x2=place, y1=top, y2=bottom, class_="grid"))
        parts.append(text(short(value), place, bottom + 15, text_anchor="middle", class_="tick"))
    parts.append(text(label, scale.end, bottom + 32, text_anchor="end", class_="label"))
    return "".join(parts)


def y_axis(scale: AxisScale, left: float, right: float, label: str) -> str:
    """Draw ticks and grid to the left of a plot, and the label above it."""
    parts = []
    for value in scale.ticks():
        place = scale(value)
        parts.append(element("line", x1=left, x2=right, y1=place, y2=place, class_="grid"))
        parts.append(text(short(value), left - 6, place + 4, text_anchor="end", class_="tick"))
    parts.append(text(label, 4, min(scale.start, scale.end) - 10, class_="label"))
    return "".join(parts)


def short(value: float) -> str:
    """Format a tick's value: 10k, 0.05, 1M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}" if abs(value) >= _TOLERANCE else "0"


def _round_step(rough: float) -> float:
    """Return the smallest round step that is at least ``rough``."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * 0.999)


def _value(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
