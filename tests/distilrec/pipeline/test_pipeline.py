"""The whole way on the tiny shop with a tiny random BERT, run once by the fixture ``shop_run``."""

import json
import logging

import numpy as np
import pytest

from distilrec.core.manifest import read_manifest, verify_manifest, write_manifest
from distilrec.data.stage import load
from distilrec.pipeline.stages import run_all, run_dir, run_stage, served_artefact, stages

pytestmark = pytest.mark.server


def test_every_stage_left_a_verified_folder(shop_run, shop_config):
    names = stages(shop_config)
    assert sorted(path.name for path in shop_run.iterdir() if path.is_dir()) == sorted([*names, "logs"])
    for stage in names:
        verify_manifest(shop_run / stage)


def test_each_stage_names_the_digests_of_what_it_read(shop_run, shop_config):
    digests = {stage: read_manifest(shop_run / stage).digest for stage in stages(shop_config)}
    read = {"data": digests["data"], "text": digests["text"]}
    assert read_manifest(shop_run / "targets-sequence").inputs == {"data": digests["data"], "teacher": digests["teacher-sequence"]}
    assert read_manifest(shop_run / "student").inputs == read | {"targets": digests["targets-sequence"]}
    assert read_manifest(shop_run / "student-undistilled").inputs == read
    assert read_manifest(shop_run / "export").inputs == {name: digests[name] for name in ("data", "student")}
    assert read_manifest(shop_run / "export-qad").inputs == {
        "data": digests["data"],
        "student": digests["student-qad"],
        "reference": digests["export"],
    }


def test_teacher_used_the_titles(shop_run):
    assert read_manifest(shop_run / "teacher-sequence").metrics["text_embeddings"] is True


def test_the_teacher_made_a_difference(shop_run):
    from safetensors.numpy import load_file

    alone, distilled = (load_file(shop_run / name / "weights.safetensors") for name in ("student-undistilled", "student"))
    assert alone.keys() == distilled.keys()
    assert any(not np.allclose(alone[name], distilled[name]) for name in alone)


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


def test_training_for_int8_changed_the_weights_a_little(shop_run):
    from safetensors.numpy import load_file

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
        read_manifest(shop_run / "export").model_copy(update={"fingerprint": "another export"}).model_dump_json()
    )
    assert served_artefact(config).name == "export"  # what was trained for an earlier export is not served
