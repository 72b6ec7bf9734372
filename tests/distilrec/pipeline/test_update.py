"""`update` on the tiny shop: new events and items into a trained student, its verdict, and its promotion."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from distilrec.api import Run
from distilrec.core.errors import ConfigError, DataError, DataWarning
from distilrec.core.manifest import read_manifest, verify_manifest
from distilrec.data.update_state import load_state
from distilrec.data.vocabulary import load_vocabulary
from distilrec.pipeline.finished import generation, served_artefact
from distilrec.pipeline.folders import run_dir
from distilrec.pipeline.refresh import plan_refresh
from distilrec.pipeline.update import update
from distilrec.serving.rollout.promotion import PromotionError, promote, versions
from distilrec.tuning.preset import write_preset
from export.repository.fill import fill_repository
from export.repository.versions import version_folder

ITEMS, GENRES = 90, 6
UPDATE = """
import logging, sys
from pathlib import Path
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from distilrec.config import load_config
from distilrec.pipeline.update import update
update(load_config(sys.argv[1]), Path(sys.argv[2]))
"""


def events(day):
    """Four events of each user within a genre, six items among them that the training has not seen."""
    random = np.random.default_rng(day)
    rows = [
        (f"u{user:03d}", f"item-{item}", 10_000.0 * day + 10 * place)
        for user in range(120)
        for place, item in enumerate(random.choice(np.arange(user % GENRES, ITEMS + GENRES, GENRES), 4, replace=False))
    ]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def write(path, frame):
    frame.write_parquet(path)
    return path


def sized(config, folder, **settings):
    """The run's settings with a small update, and a repository of its own."""
    small = {"epochs": 2, "exemplars": 100, "judged_users": 60, "max_loss": 0.99} | settings
    export = config.export.model_copy(update={"repository": folder / "triton_repo"})
    return config.model_copy(update={"update": config.update.model_copy(update=small), "export": export})


@pytest.fixture(scope="module")
def updated_run(shop_run, shop_config, tmp_path_factory):
    """A copy of the run with one update; returns the working directory."""
    folder = tmp_path_factory.mktemp("updated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copytree(shop_run, run_dir(shop_config))
        update(sized(shop_config, folder), write(folder / "1.parquet", events(1)))
    return folder


@pytest.fixture
def updated(updated_run, shop_config, tmp_path, monkeypatch):
    """Settings of a copy of it, in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(updated_run, tmp_path, dirs_exist_ok=True)
    return sized(shop_config, tmp_path)


def test_update_appends_items_and_bounds_what_it_keeps(updated, tmp_path):
    first, trained = served_artefact(updated), run_dir(updated) / "export"
    before, after = load_vocabulary(trained / "vocabulary.json"), load_vocabulary(first / "vocabulary.json")
    assert generation(updated).number == 1
    assert after.item_ids[: len(before)] == before.item_ids
    assert set(after.item_ids[len(before) :]) == {f"item-{i}" for i in range(ITEMS, ITEMS + GENRES)}
    verify_manifest(first)
    state = load_state(generation(updated).data)
    assert (len(state.exemplars.update), len(state.requests.update)) == (100, 60)
    assert set(state.exemplars.update) == {0, 1}
    student = read_manifest(generation(updated).student).metrics
    assert student["replayed_predictions"] > 0
    assert 0 < student["soft_weight"] < 5

    assert Run(updated).update(tmp_path / "1.parquet") == first
    assert load_vocabulary(version_folder(updated.export.repository) / "vocabulary.json").item_ids == after.item_ids  # it is filled

    steps = []
    manifest = (first / "manifest.json").stat().st_mtime_ns
    assert update(updated, tmp_path / "1.parquet", report=steps.append) == first
    assert steps == [f"update 1 has learned from {tmp_path / '1.parquet'} already"]
    assert (first / "manifest.json").stat().st_mtime_ns == manifest
    # A refresh goes on from the update: the list of its items changes nothing, one item less retires it.
    listed = pl.DataFrame({"item_id": after.item_ids, "title": after.titles})
    assert not plan_refresh(updated, write(tmp_path / "same.parquet", listed))
    assert plan_refresh(updated, write(tmp_path / "less.parquet", listed.head(95))).retired == (after.item_ids[-1],)


def test_refused_update_is_not_built_upon_and_its_events_are_not_lost(updated, tmp_path):
    config = sized(updated, tmp_path, learning_rate=5.0)
    bad = update(config, write(tmp_path / "2.parquet", events(2)))
    verdict = read_manifest(bad.parent / "verdict").metrics["update"]
    assert not verdict["taken"]
    assert "the update is not taken: it is clearly worse on the newest events" in verdict["reason"]
    assert generation(config).number == 1

    fill_repository(served_artefact(config), config.export)
    repository = config.export.repository
    for force, reason, missing in ((False, "", "Promote it all the same"), (True, " ", "a reason is missing")):
        with pytest.raises(PromotionError, match=f"it is clearly worse on the newest events.*{missing}"):
            promote(bad, repository, config.export, None, force=force, reason=reason)
    assert [(one.number, one.forced) for one in versions(repository)] == [(1, "")]
    good = update(updated, write(tmp_path / "3.parquet", events(3)))
    data = read_manifest(good.parent / "data")
    assert (good.parent.name, data.metrics["events"]) == ("0003", 960)
    assert len(data.settings["interactions_sha256"]) == 2
    assert (generation(config).number, data.metrics["former_items"]) == (3, 96)
    assert promote(good, repository, config.export, None).version == 2
    assert promote(bad, repository, config.export, None, force=True, reason="a drill").version == 3
    assert [one.forced for one in versions(repository)] == ["", "", "a drill"]
    assert promote(run_dir(config) / "updates" / "0001" / "export", repository, config.export, None).version == 4


def test_bad_input_changes_nothing(updated, tmp_path):
    changed = updated.model_copy(update={"student": updated.student.model_copy(update={"embedding_size": 16})})
    with pytest.raises(ConfigError, match=r"student\.embedding_size: found 16, trained with 8"):
        update(changed, write(tmp_path / "2.parquet", events(2)))
    with pytest.raises(DataError, match="found the file that the run was trained on"):
        update(updated, updated.data.interactions)
    with pytest.raises(DataError, match="older than the last event that was learned from"):
        update(updated, write(tmp_path / "old.parquet", events(1).with_columns(pl.col("timestamp") - 20_000)))
    one_each = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": [30_000.0, 30_001.0]})
    with pytest.raises(DataError, match="of unknown items alone"):
        update(updated, write(tmp_path / "other.parquet", one_each))
    with pytest.raises(DataError, match="cannot be read"):
        update(updated, tmp_path / "missing.parquet")
    assert generation(updated).number == 1
    assert not [path for path in (run_dir(updated) / "updates").glob("*/*") if path.name == "data" and path.parent.name != "0001"]


def test_killed_update_goes_on_to_the_same_weights(updated, tmp_path, pytestconfig):
    mixed = pl.concat([events(2), events(0), pl.DataFrame({"user_id": ["u001"], "item_id": ["x"], "timestamp": [20_500.0]})])
    file = write(tmp_path / "2.parquet", mixed)
    copy = tmp_path / "copy"
    shutil.copytree(run_dir(updated), copy)
    with pytest.warns(DataWarning) as caught:
        update(updated, file)
    said = " ".join(str(one.message) for one in caught)
    assert "480 event(s) are older than the last event that was learned from; they are left out" in said
    assert "1 event(s) of 1 unknown item(s) (such as 'x')" in said
    student = run_dir(updated) / "updates" / "0002" / "student"
    expected = read_manifest(student).files
    shutil.rmtree(run_dir(updated))
    copy.rename(run_dir(updated))
    write_preset(tmp_path / "shop.toml", updated, "test")
    random = np.random.default_rng(0)
    lines = ("student: epoch 1", "export: running", "update-data: running", "update-student: running")
    for line in itertools.islice(itertools.cycle(lines), pytestconfig.getoption("--kills")):
        kill_after(line, random.random() * 0.3, tmp_path / "shop.toml", file)
    assert update(updated, file) == run_dir(updated) / "updates" / "0002" / "export"
    assert read_manifest(student).files == expected


def kill_after(line: str, wait_s: float, preset: Path, file: Path) -> None:
    """Run the command in a process of its own, and kill it some time after it has printed a line."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-u", "-c", UPDATE, str(preset), str(file)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    printed = []
    while (text := process.stdout.readline()) and line not in text:
        printed.append(text)
    # A later kill may find the stage of its line finished.
    assert line in text or process.wait() == 0, printed
    time.sleep(wait_s)
    process.send_signal(signal.SIGKILL)
    process.communicate()
