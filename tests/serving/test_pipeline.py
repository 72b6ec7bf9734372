"""The whole way on the tiny shop with a tiny random BERT, run once by the fixture ``shop_run``."""

import logging

import numpy as np

from distilrec.data.stage import load
from distilrec.manifest import read_manifest, verify_manifest
from distilrec.pipeline import STAGES, run_all, run_stage


def test_every_stage_left_a_verified_folder(shop_run):
    assert sorted(path.name for path in shop_run.iterdir() if path.is_dir()) == sorted(STAGES)
    for stage in STAGES:
        verify_manifest(shop_run / stage)


def test_each_stage_names_the_digests_of_what_it_read(shop_run):
    digests = {stage: read_manifest(shop_run / stage).digest for stage in STAGES}
    assert read_manifest(shop_run / "targets").inputs == {name: digests[name] for name in ("data", "teacher")}
    assert read_manifest(shop_run / "student").inputs == {name: digests[name] for name in ("data", "targets")}
    assert read_manifest(shop_run / "student-undistilled").inputs == {"data": digests["data"]}
    assert read_manifest(shop_run / "export").inputs == {name: digests[name] for name in ("data", "student")}


def test_teacher_used_the_titles(shop_run):
    assert read_manifest(shop_run / "teacher").metrics["text_embeddings"] is True


def test_the_teacher_made_a_difference(shop_run):
    from safetensors.numpy import load_file

    alone, distilled = (load_file(shop_run / name / "weights.safetensors") for name in ("student-undistilled", "student"))
    assert alone.keys() == distilled.keys()
    assert any(not np.allclose(alone[name], distilled[name]) for name in alone)


def test_second_run_does_nothing(shop_run, shop_config, monkeypatch, caplog):
    monkeypatch.chdir(shop_run.parent.parent)
    before = {stage: (shop_run / stage / "manifest.json").stat().st_mtime_ns for stage in STAGES}
    with caplog.at_level(logging.INFO):
        run_all(shop_config)
    assert {stage: (shop_run / stage / "manifest.json").stat().st_mtime_ns for stage in STAGES} == before
    assert sum("unchanged" in record.message for record in caplog.records) == len(STAGES)


def test_own_data_split_by_time_trains_without_a_teacher(shop_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = shop_config.model_copy(update={"data": shop_config.data.model_copy(update={"split": None})})
    assert config.data.split_kind == "temporal"
    run_stage(config, "data")
    manifest = run_stage(config, "student-undistilled")
    assert manifest.metrics["validation_ndcg@10"] > 0
    dataset, _ = load(tmp_path / "runs" / "shop" / "data")
    assert (dataset.test_start - dataset.validation_start).max() > 1  # some users have several right answers
