"""The whole way on the tiny shop with a tiny random BERT, run once by the fixture ``shop_run``."""

import json
import logging

import numpy as np
import pytest
from safetensors.numpy import load_file

from distill.models.runner import TorchRunner
from distill.models.students.build import load_student
from distill.models.teachers.load import load_ensemble
from distill.stages.text import load_embeddings
from distilrec.config import spec_of_run
from distilrec.core.manifest import read_manifest, verify_manifest, write_manifest
from distilrec.data.dataset import held_out
from distilrec.data.stage import load
from distilrec.evaluation.metrics import overlap
from distilrec.pipeline.finished import served_artefact
from distilrec.pipeline.folders import run_dir
from distilrec.pipeline.stages import run_all, run_stage, stages

pytestmark = pytest.mark.server


def test_every_stage_left_a_verified_folder(shop_run, shop_config):
    for stage in stages(shop_config):
        verify_manifest(shop_run / stage)
    assert not list(shop_run.glob("*.partial"))


def test_each_stage_names_the_digests_of_what_it_read(shop_run, shop_config):
    digests = {stage: read_manifest(shop_run / stage).digest for stage in stages(shop_config)}
    read = {"data": digests["data"], "text": digests["text"]}
    assert read_manifest(shop_run / "teacher-sequence").inputs == read
    assert read_manifest(shop_run / "targets-sequence").inputs == {"data": digests["data"], "teacher": digests["teacher-sequence"]}
    assert read_manifest(shop_run / "student").inputs == read | {"targets": digests["targets-sequence"]}
    assert read_manifest(shop_run / "student-undistilled").inputs == read
    assert read_manifest(shop_run / "export").inputs == {
        "data": digests["data"],
        "student": digests["student"],
        "verdict": digests["student-verdict"],
    }
    assert read_manifest(shop_run / "export-qad").inputs == {
        "data": digests["data"],
        "student": digests["student-qad"],
        "verdict": digests["student-verdict"],
        "reference": digests["export"],
    }


def test_teacher_reads_the_titles(shop_run):
    """Items with similar titles have similar vectors, although training never compares titles."""
    text = load_embeddings(shop_run / "text").numpy()
    vectors = load_file(shop_run / "teacher-sequence" / "weights.safetensors")["items.learned"][1 : len(text) + 1]
    of_titles, of_items = (np.corrcoef(rows)[np.triu_indices(len(text), 1)] for rows in (text, vectors[:, 1:]))
    assert np.corrcoef(of_titles, of_items)[0, 1] > 0.3  # 0.09 for a teacher that does not read them


def test_distilled_student_ranks_more_like_its_teacher(shop_run, shop_config):
    """Agreement with the teacher, over the teacher's and each student's first ten items."""
    dataset, vocabulary = load(shop_run / "data")
    spec = spec_of_run(shop_config, len(vocabulary))
    users = held_out(dataset, "test", spec)
    ensemble = load_ensemble(shop_config, {"sequence": 1.0}, {"sequence": shop_run / "teacher-sequence"}, spec.item_count)
    students = [load_student(shop_config, shop_run / stage, spec.item_count) for stage in ("student", "student-undistilled")]
    answers = [TorchRunner(model, spec).recommend(users.history, users.exclude)[0] for model in (ensemble, *students)]
    distilled, undistilled = (overlap(answers[0], answer, 10).mean() for answer in answers[1:])
    assert distilled > undistilled + 0.1


def test_second_run_does_nothing(shop_run, shop_config, monkeypatch, caplog):
    monkeypatch.chdir(shop_run.parent.parent)
    before = {stage: (shop_run / stage / "manifest.json").stat().st_mtime_ns for stage in stages(shop_config)}
    with caplog.at_level(logging.INFO):
        run_all(shop_config)
    assert {stage: (shop_run / stage / "manifest.json").stat().st_mtime_ns for stage in stages(shop_config)} == before
    assert sum("unchanged" in record.message for record in caplog.records) == len(stages(shop_config))


def test_own_data_split_by_time_trains_without_a_teacher(shop_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = shop_config.model_copy(update={"data": shop_config.data.model_copy(update={"split": None})})
    assert config.data.split_kind == "temporal"
    run_stage(config, "data")
    run_stage(config, "text")
    manifest = run_stage(config, "student-undistilled")
    assert manifest.metrics["validation_ndcg@10"] > 0
    dataset, _ = load(tmp_path / "runs" / "shop" / "data")
    assert (dataset.test_start - dataset.validation_start).max() > 1  # some users have several right answers


def test_every_precision_is_made_measured_and_explained(shop_run):
    report = json.loads((shop_run / "export" / "report.json").read_text())
    assert report["precisions"].keys() == {"fp32", "fp16", "int8"}
    assert all(measured["p50_ms"] > 0 and 0 < measured["overlap_at_10"] <= 1 for measured in report["precisions"].values())
    assert report["precisions"]["fp32"]["overlap_at_10"] == 1
    assert report["int8"]["saturation"] < 0.01
    assert report["verdict"] == {"precision": "fp32", "reason": "fp32 ships: the settings ask for it"}
    verdict = read_manifest(shop_run / "student-verdict").metrics
    assert report["student"] == {name: verdict[name] for name in ("ships", "ranks_worse", "reason")}
    assert report["student"]["reason"].startswith("WARNING, the student that ranks worse ships: the distilled student ships")


def test_training_for_int8_changed_the_weights_a_little(shop_run):
    plain, trained = (load_file(shop_run / name / "weights.safetensors") for name in ("student", "student-qad"))
    assert plain.keys() == trained.keys()
    differences = [np.abs(plain[name] - trained[name]).max() for name in plain]
    assert 0 < max(differences) < 0.2


@pytest.mark.parametrize(
    ("plain", "within_budget", "trained", "use", "served"),
    [
        ("fp32", False, "int8", "auto", "export-qad"),
        ("int8", True, "int8", "on", "export"),
        ("int8", False, "int8", "auto", "export-qad"),
        ("fp32", False, "fp32", "auto", "export"),
        ("fp32", False, "int8", "off", "export"),
    ],
)
def test_training_for_int8_is_served_where_it_is_what_lets_int8_ship(
    shop_run, shop_config, tmp_path, monkeypatch, plain, within_budget, trained, use, served
):
    monkeypatch.chdir(tmp_path)
    config = shop_config.model_copy(update={"qad": shop_config.qad.model_copy(update={"use": use})})
    for stage, metrics in (
        ("export", {"precision": plain, "int8_within_budget": within_budget}),
        ("export-qad", {"precision": trained}),
    ):
        manifest = read_manifest(shop_run / stage)
        folder = tmp_path / run_dir(config) / stage
        folder.mkdir(parents=True)
        write_manifest(folder, manifest.model_copy(update={"metrics": manifest.metrics | metrics}))
    assert served_artefact(config).name == served
    (tmp_path / run_dir(config) / "export" / "manifest.json").write_text(
        read_manifest(shop_run / "export").model_copy(update={"seed": 1}).model_dump_json()
    )
    assert served_artefact(config).name == "export"  # what was trained for an earlier export is not served
