"""The headline says what the files of the run say."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from distilrec.report.headline import findings, headline_numbers, summary_sentence


def shares(found: dict[str, Any]) -> list[str]:
    return [f"{(1 + found[name]) * 100:.1f}\N{NO-BREAK SPACE}%" for name in ("relative", "relative_low", "relative_high")]


def test_headline_is_what_the_files_say(report_content):
    everybody = json.loads(Path("runs/shop/evaluation/evaluation.json").read_text())["evaluation"]["everybody"]
    mean, low, high = shares(everybody["differences"]["teacher (PyTorch)"]["student, ONNX FP32"]["ndcg@10"])
    kept, faster, smaller = headline_numbers(report_content)
    assert kept.value == mean
    assert f"{low} to {high}" in kept.note
    assert faster.value == "50x"  # 6 ms of the teacher, 0.12 of what is served
    assert "0.12 instead of 6 ms" in faster.note
    assert "teacher in PyTorch" in faster.note
    sizes = json.loads(Path("runs/shop/evaluation/evaluation.json").read_text())["size_bytes"]
    assert float(smaller.value[:-1]) == pytest.approx(sizes["teacher (PyTorch)"] / sizes["student, ONNX FP32"], rel=0.1)
    assert summary_sentence(report_content).startswith("The student that is served (FP32, distilled) keeps ")
    assert findings(report_content)[0].startswith("Teachers: NDCG@10 on 240 validation users: sequence 0.")
    assert findings(report_content)[1].startswith(
        "Student: WARNING, the student that ranks worse ships: the distilled student ships"
    )
    assert mean in summary_sentence(report_content)
    assert "50 times faster" in summary_sentence(report_content)


def test_speed_is_compared_in_one_runtime_where_that_was_timed(report_content):
    eager = report_content.benchmarks.model("teacher-torch")
    exported = eager.model_copy(update={"model": "teacher-onnx", "p50_ms": 2.4})
    benchmarks = report_content.benchmarks.model_copy(update={"models": (*report_content.benchmarks.models, exported)})
    _, faster, _ = headline_numbers(dataclasses.replace(report_content, benchmarks=benchmarks))
    assert faster.value == "20x"
    assert "both in ONNX Runtime; 50x against the teacher in PyTorch" in faster.note
