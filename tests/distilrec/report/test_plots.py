"""Figures: what is drawn is where the numbers say, and text from data stays text."""

import itertools
import re
from xml.etree import ElementTree as ET

import pytest

from distilrec.report.judgement import Interval
from distilrec.report.plots import Bar, Point, Series, Spread, front, intervals, lines, pareto, spreads
from distilrec.report.svg import CHARACTER, WIDTH, Scale, linear_scale, log_scale, short

SVG = "{http://www.w3.org/2000/svg}"


def point(label: str, ms: float, mean: float, family: str = "distilled") -> Point:
    return Point(label, family, "circle", ms, Interval(mean, mean - 0.01, mean + 0.01))


POINTS = [
    point("teacher", 6.2, 0.124, "teacher"),
    point("FP32", 0.113, 0.1235),
    point("FP16", 0.1465, 0.1238),
    point("INT8", 0.126, 0.1248),
    point("no teacher", 0.114, 0.121, "undistilled"),
    point("PyTorch", 0.43, 0.1235),
]


def test_scales_by_hand():
    linear = Scale(0, 10, 100, 300)
    assert (linear(0), linear(5), linear(10)) == (100, 200, 300)
    logarithmic = Scale(1, 100, 0, 10, logarithmic=True)
    assert (logarithmic(1), logarithmic(10), logarithmic(100)) == pytest.approx((0, 5, 10))
    upside_down = Scale(0, 1, 200, 0)
    assert upside_down(0.25) == 150


@pytest.mark.parametrize(
    "scale",
    [
        log_scale([0.1, 143.0], 0, 1),
        log_scale([0.1, 0.15], 0, 1),
        log_scale([10_000, 1_000_000], 0, 1),
        linear_scale([0.105, 0.142], 0, 1),
        linear_scale([0.0, 2300.0], 0, 1, from_zero=True),
        linear_scale([0.5, 0.5], 0, 1),
    ],
)
def test_ticks_are_within_the_scale_round_and_few(scale):
    ticks = scale.ticks()
    assert 3 <= len(ticks) <= 9
    assert all(scale.low * 0.99 <= tick <= scale.high * 1.01 for tick in ticks)
    assert ticks == sorted(ticks)
    assert len({short(tick) for tick in ticks}) == len(ticks)


@pytest.mark.parametrize(
    ("value", "words"), [(10_000, "10k"), (1e6, "1M"), (2_500_000, "2.5M"), (0.05, "0.05"), (1e-17, "0"), (150, "150")]
)
def test_numbers_at_ticks(value, words):
    assert short(value) == words


def test_front_is_what_no_other_beats_in_both():
    assert [p.label for p in front(POINTS)] == ["FP32", "INT8"]
    assert [p.label for p in front([point("slow", 2, 0.1), point("fast", 1, 0.1)])] == ["fast"]


def test_pareto_has_all_models_where_they_belong():
    root = ET.fromstring(pareto(POINTS, "NDCG@10"))
    marks = root.findall(f"{SVG}circle")
    assert len(marks) == len(POINTS)
    by_ms = sorted(zip((p.ms for p in POINTS), marks, strict=True), key=lambda pair: pair[0])
    places = [float(mark.get("cx", "")) for _, mark in by_ms]
    assert places == sorted(places)
    best = max(zip(POINTS, marks, strict=True), key=lambda pair: pair[0].quality.mean)[1]
    assert float(best.get("cy", "")) == min(float(mark.get("cy", "")) for mark in marks)
    assert root.find(f"{SVG}title") is not None
    assert "INT8 0.1248 at 0.126 ms" in root.findtext(f"{SVG}desc", "")


def test_labels_cover_neither_each_other_nor_leave_the_figure():
    root = ET.fromstring(pareto(POINTS, "NDCG@10"))
    boxes = []
    for label in root.findall(f"{SVG}text"):
        if "name" not in label.get("class", ""):
            continue
        width, at = len(label.text or "") * CHARACTER, float(label.get("x", ""))
        left = {"start": at, "end": at - width, "middle": at - width / 2}[label.get("text-anchor", "")]
        boxes.append((left, left + width, float(label.get("y", ""))))
    assert len(boxes) == len(POINTS)
    assert all(left >= 0 and right <= WIDTH for left, right, _ in boxes)
    for (left, right, y), (other_left, other_right, other_y) in itertools.combinations(boxes, 2):
        assert abs(y - other_y) >= 14 or right <= other_left or other_right <= left


def test_text_of_data_stays_text_in_all_figures():
    evil = '<script>alert("x")</script>&'
    drawn = [
        pareto([point(evil, 1, 0.1), point("b", 2, 0.2)], evil),
        intervals([Bar(evil, "distilled", Interval(1.0, 0.9, None))], evil, evil, 1.0),
        spreads([Spread(evil, "distilled", 1, 2, 3, None)], evil),
        lines([Series(evil, "distilled", ((1, 2), (3, 4)))], evil, evil, evil),
    ]
    for svg in drawn:
        ET.fromstring(svg)
        assert "<script" not in svg


def test_limit_lines_are_dashed_and_have_no_marks():
    measured = Series("FP32", "distilled", ((10_000, 0.09), (1_000_000, 18.0)))
    limit = Series("limit", "distilled", ((10_000, 0.05), (1_000_000, 12.0)), dashed=True)
    svg = lines([measured, limit], "growth", "items", "ms")
    root = ET.fromstring(svg)
    assert len([p for p in root.findall(f"{SVG}path") if "dashed" in p.get("class", "")]) == 2  # the line, and its legend
    assert len(root.findall(f"{SVG}circle")) == 2 + 1
    assert not re.search(r'="(nan|inf)', svg)
