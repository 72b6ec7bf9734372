"""Plots: marks lie where the numbers say, and text from data stays text."""

import itertools
import re
from xml.etree import ElementTree as ET

from distilrec.report.evaluation_file import MeanWithInterval
from distilrec.report.plots import (
    IntervalRow,
    LatencyRow,
    LineSeries,
    ModelPoint,
    interval_plot,
    latency_plot,
    line_plot,
    pareto_front,
    pareto_plot,
)
from distilrec.report.svg import CHARACTER, WIDTH

SVG = "{http://www.w3.org/2000/svg}"


def point(label: str, ms: float, mean: float, family: str = "distilled") -> ModelPoint:
    return ModelPoint(label, family, "circle", ms, MeanWithInterval(mean, mean - 0.01, mean + 0.01))


POINTS = [
    point("teacher", 6.2, 0.124, "teacher"),
    point("FP32", 0.113, 0.1235),
    point("FP16", 0.1465, 0.1238),
    point("INT8", 0.126, 0.1248),
    point("no teacher", 0.114, 0.121, "undistilled"),
    point("PyTorch", 0.43, 0.1235),
]


def test_pareto_front_holds_what_no_other_model_beats_in_both():
    assert [p.label for p in pareto_front(POINTS)] == ["FP32", "INT8"]
    assert [p.label for p in pareto_front([point("slow", 2, 0.1), point("fast", 1, 0.1)])] == ["fast"]


def test_pareto_has_all_models_where_they_belong():
    root = ET.fromstring(pareto_plot(POINTS, "NDCG@10"))
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
    root = ET.fromstring(pareto_plot(POINTS, "NDCG@10"))
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
        pareto_plot([point(evil, 1, 0.1), point("b", 2, 0.2)], evil),
        interval_plot([IntervalRow(evil, "distilled", MeanWithInterval(1.0, 0.9, None))], evil, evil, 1.0),
        latency_plot([LatencyRow(evil, "distilled", 1, 2, 3, None)], evil),
        line_plot([LineSeries(evil, "distilled", ((1, 2), (3, 4)))], evil, evil, evil),
    ]
    for svg in drawn:
        ET.fromstring(svg)
        assert "<script" not in svg


def test_limit_lines_are_dashed_and_have_no_marks():
    measured = LineSeries("FP32", "distilled", ((10_000, 0.09), (1_000_000, 18.0)))
    limit = LineSeries("limit", "distilled", ((10_000, 0.05), (1_000_000, 12.0)), dashed=True)
    svg = line_plot([measured, limit], "growth", "items", "ms")
    root = ET.fromstring(svg)
    assert len([p for p in root.findall(f"{SVG}path") if "dashed" in p.get("class", "")]) == 2  # the line, and its legend
    assert len(root.findall(f"{SVG}circle")) == 2 + 1
    assert not re.search(r'="(nan|inf)', svg)
