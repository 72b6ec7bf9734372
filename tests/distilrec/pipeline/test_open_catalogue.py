"""The tiny shop with an open catalogue: content goes all the way, and items that nobody has touched are recommended."""

import json

import pytest
from safetensors.torch import load_file

from distill.models.runner import TorchRunner
from distill.models.students.build import load_student
from distill.models.teachers.load import load_teacher
from distill.models.weights import WEIGHTS
from distilrec.config import TextConfig, as_cold, spec_of_run
from distilrec.core.errors import ConfigError
from distilrec.core.manifest import read_manifest
from distilrec.core.specs import table_rows
from distilrec.data.cold import cold_held_out, load_cold
from distilrec.data.dataset import held_out
from distilrec.data.stage import load
from distilrec.evaluation.cold import NEIGHBOURS, POPULARITY
from distilrec.evaluation.ranking import ranking_metrics
from distilrec.evaluation.report import render_json, render_markdown
from distilrec.pipeline.evaluate import evaluate_runs
from distilrec.pipeline.stages import run_stage


def test_content_is_folded_away_and_kept_beside_the_weights(open_run):
    _, vocabulary = load(open_run / "data")
    weights = load_file(open_run / "student" / WEIGHTS)
    assert [name for name in weights if name.startswith("items.")] == ["items.learned"]
    assert weights["items.learned"].shape[0] == table_rows(len(vocabulary))
    assert load_file(open_run / "student" / "content.safetensors")["linear.weight"].shape[1] == 16 + 12 + 2 + 6
    assert load_file(open_run / "teacher-sequence" / "content.safetensors")["linear.weight"].shape[1] == 16 + 6
    assert read_manifest(open_run / "text").settings.keys() == {"model_sha256", "image_model", "pictures_sha256"}
    metrics = read_manifest(open_run / "teacher-sequence").metrics
    assert (metrics["content"], metrics["id_dropout"]) == (["genre", "image"], 0.1)


def test_cold_items_are_judged_beside_popularity_and_neighbours(open_run, open_config, monkeypatch):
    monkeypatch.chdir(open_run.parent.parent)
    report = evaluate_runs([open_config], "test")
    dataset, vocabulary = load(open_run / "data")
    held_out = load_cold(open_run / "data")
    spec = spec_of_run(open_config, len(vocabulary))
    users = cold_held_out(dataset, held_out, spec)
    found, (whole, among) = report.cold, (getattr(report.cold, part).everybody for part in ("whole", "among"))
    assert (found.items, whole.users) == (9, len(users.users))
    assert whole.estimates[POPULARITY]["hr@10"].mean == 0
    student = TorchRunner(
        load_student(open_config, open_run / "student", len(vocabulary)), spec_of_run(open_config, len(vocabulary))
    )
    answers = student.recommend(users.history, users.exclude)[0]
    hits = ranking_metrics(answers, users)["hr@10"]
    for name in ("student, distilled", "student, ONNX FP32"):
        assert whole.estimates[name]["hr@10"].mean == pytest.approx(hits)
        assert among.estimates[name]["hr@10"].mean >= whole.estimates[name]["hr@10"].mean
    assert whole.estimates["student, ONNX INT8"]["hr@10"].mean == pytest.approx(hits, abs=0.1)
    # A genre holds a sixth of the items, and content says which one.
    assert among.estimates["student, distilled"]["ndcg@10"].mean > among.estimates[POPULARITY]["ndcg@10"].mean
    assert found.whole.everybody.differences[NEIGHBOURS]["student, distilled"]["hr@10"].mean == pytest.approx(
        hits - whole.estimates[NEIGHBOURS]["hr@10"].mean
    )
    text = render_markdown(report)
    assert "## Items that nobody has touched\n\nAll interactions of 9 items were held out" in text
    assert json.loads(render_json(report))["cold"]["items"] == 9


def test_untouched_items_are_neither_lost_nor_everywhere(open_run, open_config):
    dataset, vocabulary = load(open_run / "data")
    untouched = dataset.training_counts()[1:] == 0
    assert untouched.sum() == 10 + 9  # listed alone, and a tenth that is held out
    spec = spec_of_run(open_config, len(vocabulary), 10)
    users = held_out(dataset, "validation", spec)
    teacher = load_teacher(open_config, "sequence", open_run / "teacher-sequence", len(vocabulary))
    student = load_student(open_config, open_run / "student", len(vocabulary))
    for model, stage in ((student, "student"), (teacher, "teacher-sequence")):
        items, _ = TorchRunner(model, spec).recommend(users.history, users.exclude)
        assert untouched[items - 1].mean() == pytest.approx(0.1, abs=0.01)
        recorded = read_manifest(open_run / stage).metrics["validation_ndcg@10"]
        assert ranking_metrics(items, users)["ndcg@10"] == pytest.approx(recorded, abs=1e-3)


def test_unknown_items_of_which_nothing_is_known_are_refused(shop_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = as_cold(shop_config.model_copy(update={"text": TextConfig(use="off")}))
    for stage in ("data", "text"):
        run_stage(config, stage)
    with pytest.raises(ConfigError, match=r"items are sometimes known by their content alone, and no content"):
        run_stage(config, "student-undistilled")
