"""Names and values of user attributes have no effect in evaluation.md and model cards but to be read."""

import numpy as np
import pytest

from distilrec.core.manifest import Manifest
from distilrec.data.dataset import HeldOut
from distilrec.evaluation.model_card import ModelCard, render_card
from distilrec.evaluation.ranking import compare_metrics, user_metrics
from distilrec.evaluation.report import EvaluationReport, Roles, render_markdown
from distilrec.evaluation.slices import attribute_slices

USERS, ITEMS = 60, 20
NAME = "pl|an<img src=x>"
VALUE = "[free](http://evil.example) \x1b[31m`*_|\\|"
RARE = ("a", "b", "c", "d", "e", "f", "g", "h", "i")
ESCAPED = "pl\\|an\\<img src=x\\>: \\[free\\](http://evil.example) \\`\\*\\_\\|\\\\\\|"


@pytest.fixture(scope="module")
def held_out_metrics():
    random = np.random.default_rng(0)
    truth = random.integers(1, ITEMS + 1, (USERS, 1)).astype(np.int32)
    empty = np.zeros((USERS, 4), np.int32)
    users = HeldOut(np.arange(USERS), empty, empty, truth, 0, 0)
    items = {
        name: random.permuted(np.tile(np.arange(1, ITEMS + 1, dtype=np.int32), (USERS, 1)), axis=1) for name in ("t", "u", "d")
    }
    items["d"] = np.where(np.arange(USERS)[:, None] < 30, items["d"], items["u"])
    counts = np.concatenate([[0], np.arange(ITEMS, 0, -1)])
    return {name: user_metrics(of, users, counts) for name, of in items.items()}


@pytest.fixture(scope="module")
def slices():
    values = (VALUE,) * 30 + RARE * 3 + ("a",) * 3
    return attribute_slices(NAME, values, np.arange(USERS))


def lines_of(text: str) -> list[str]:
    assert "\x1b" not in text
    assert "<img" not in text.replace("\\<", "")
    assert " [free]" not in text
    return [line for line in text.splitlines() if "free" in line]


def test_evaluation_shows_attributes_as_they_are(held_out_metrics, slices):
    evaluation = compare_metrics(held_out_metrics, slices, references=("u", "t"))
    sizes = dict.fromkeys(held_out_metrics, 1)
    verdicts = {0: "the distilled student ships"}
    report = EvaluationReport("shop", "test", (0,), 0, 0, Roles("t", "u", "d"), verdicts, sizes, sizes, 1.0, 1.0, evaluation)
    text = render_markdown(report)
    rows = [line for line in lines_of(text) if line.startswith("|")]
    assert rows
    assert all(line.startswith(f"| {ESCAPED} | 30 |") for line in rows)
    assert "users with a rarer pl|an\\<img src=x\\>" in text


def test_model_card_shows_attributes_as_they_are(held_out_metrics, slices):
    sizes = {"interactions": 9, "users": 9, "items": 9, "training_interactions": 9, "vocabulary_sha256": "0"}
    settings = {"source": None, "split": "temporal", "interactions_sha256": "0"}
    data = Manifest(stage="data", fingerprint="", settings=settings, seed=0, inputs={}, versions={}, files={}, metrics=sizes)
    evaluation = compare_metrics({"d": held_out_metrics["d"]}, slices)
    text = render_card(ModelCard("a model", "It ranks.", {}, 0, 1, 10, 10, data, evaluation, 1.0))
    (row,) = lines_of(text)
    assert row.startswith(f"| {ESCAPED} | 30 |")
