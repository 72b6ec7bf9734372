"""SVG as text: elements, scales and axes; pure functions, and all text is escaped.

Colours are classes (``of-teacher``); what they look like, in light and in dark, the page's style says.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 440
"""Of every figure, in its own units: text stays readable when a phone shows it at three quarters of that."""

CHARACTER = 6.8
"""About the width of a character of a label, in the widest of the usual fonts."""


def element(tag: str, *content: str, **attributes: str | float) -> str:
    """An element; an underscore in an attribute's name stands for a hyphen, and at its end for nothing."""
    found = "".join(f' {name.rstrip("_").replace("_", "-")}="{_value(value)}"' for name, value in attributes.items())
    return f"<{tag}{found}>{''.join(content)}</{tag}>" if content else f"<{tag}{found}/>"


def text(words: str, x: float, y: float, **attributes: str | float) -> str:
    """A line of text."""
    return element("text", escape(words), x=x, y=y, **attributes)


def figure(height: float, title: str, description: str, *content: str) -> str:
    """A whole figure, with a title and a description for those who do not see it."""
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
    """A point of a shape of its own (circle, square, triangle, diamond), with a note for the mouse."""
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
class Scale:
    """From values to places."""

    low: float
    high: float
    start: float
    """Place of ``low``."""
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Place of a value; one outside lies at the edge."""
        low, high, at = (math.log(v) if self.logarithmic else v for v in (self.low, self.high, max(value, self.low)))
        return self.start + (self.end - self.start) * min(1.0, (at - low) / (high - low))

    def ticks(self) -> list[float]:
        """Round values within the scale, three to eight of them."""
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for digits in ((1,), (1, 3), (1, 2, 5)):
                within = [d * 10.0**power for power in decades for d in digits if self.low <= d * 10.0**power <= self.high]
                if len(within) >= 3:
                    return within
        # Also where a logarithmic scale holds less than a decade.
        step = _round_step((self.high - self.low) / 6)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def log_scale(values: Sequence[float], start: float, end: float) -> Scale:
    """A logarithmic scale with some room at both ends."""
    low, high = min(values), max(values)
    return Scale(low / 1.35, high * 1.35, start, end, logarithmic=True)


def linear_scale(values: Sequence[float], start: float, end: float, *, from_zero: bool = False) -> Scale:
    """A linear scale with some room at both ends."""
    low, high = min(values), max(values)
    room = (high - low or abs(high) or 1.0) * 0.08
    return Scale(0.0 if from_zero else low - room, high + room, start, end)


def x_axis(scale: Scale, bottom: float, top: float, label: str) -> str:
    """Ticks, grid and label below a plot."""
    parts = []
    for value in scale.ticks():
        at = scale(value)
        parts.append(element("line", x1=at, x2=at, y1=top, y2=bottom, class_="grid"))
        parts.append(text(short(value), at, bottom + 15, text_anchor="middle", class_="tick"))
    parts.append(text(label, scale.end, bottom + 32, text_anchor="end", class_="label"))
    return "".join(parts)


def y_axis(scale: Scale, left: float, right: float, label: str) -> str:
    """Ticks, grid and label to the left of a plot; the label stands above it, where it can be read."""
    parts = []
    for value in scale.ticks():
        at = scale(value)
        parts.append(element("line", x1=left, x2=right, y1=at, y2=at, class_="grid"))
        parts.append(text(short(value), left - 6, at + 4, text_anchor="end", class_="tick"))
    parts.append(text(label, 4, min(scale.start, scale.end) - 10, class_="label"))
    return "".join(parts)


def short(value: float) -> str:
    """A tick: 10k, 0.05, 1M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}" if abs(value) >= 1e-9 else "0"


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * 0.999)


def _value(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
