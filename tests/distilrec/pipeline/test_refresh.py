"""`refresh` on the tiny shop: new, changed and retired items of a finished run, without training."""

import json
import shutil
import time
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from golden_load import Load
from open_shop import LISTED, products, write_vectors
from typer.testing import CliRunner

from clients import RecommenderClient
from distilrec.cli.app import app
from distilrec.config import FilterColumn, VectorConfig, spec_of_artefact, spec_of_run
from distilrec.core.errors import DataError
from distilrec.core.golden import load_golden
from distilrec.core.manifest import read_manifest, sha256_of_file, verify_manifest
from distilrec.core.specs import Precision
from distilrec.data.dataset import held_out
from distilrec.data.item_filters import load_filters
from distilrec.data.stage import load
from distilrec.data.vocabulary import load_vocabulary
from distilrec.pipeline import refresh as pipeline
from distilrec.pipeline.finished import served_artefact
from distilrec.pipeline.folders import run_dir
from distilrec.pipeline.refresh import describe, plan_refresh, refresh
from distilrec.pipeline.stages import run_stage
from distilrec.serving.process.security import SECRET_VARIABLE, ControlSecret
from distilrec.serving.process.server import TritonServer, free_ports
from distilrec.tuning.preset import write_preset
from export.artefact import head_folder, model_path
from export.graph.onnx_runner import OnnxRunner
from export.heads.runner import ApproximateRunner
from export.repository.fill import fill_repository

RETIRED, NEW = [f"item-{i}" for i in range(5)], [f"item-{i}" for i in range(LISTED, LISTED + 20)]


@pytest.fixture
def shop(open_run, open_config, tmp_path, monkeypatch):
    """Settings of a copy of the run whose file of vectors knows the new items, in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(open_run, run_dir(open_config))
    write_vectors(tmp_path / "image.parquet", range(LISTED + 20))
    vectors = {"image": VectorConfig(file=tmp_path / "image.parquet")}
    return open_config.model_copy(update={"data": open_config.data.model_copy(update={"vectors": vectors})})


@pytest.fixture
def photos(open_config):
    return open_config.data.items.parent


@pytest.fixture
def listed(tmp_path, photos):
    """The catalogue now: five items are gone, one has another genre, twenty are new."""
    rows = products(range(5, LISTED + 20), photos)
    genre = pl.when(pl.col("item_id") == "item-7").then(pl.lit(["g2"])).otherwise(pl.col("genre"))
    return write(tmp_path / "now.parquet", rows.with_columns(genre.alias("genre")))


def write(path, rows):
    rows.write_parquet(path)
    return path


def scores_of(config, artefact, precision, users, item_count):
    runner = OnnxRunner(model_path(artefact, precision), spec_of_run(config, item_count))
    return runner.scores(users.history, users.exclude), runner.recommend(users.history, users.exclude)[0]


def test_new_changed_and_retired_items_without_training(shop, listed):
    trained = served_artefact(shop)
    before = load_vocabulary(trained / "vocabulary.json")
    change = plan_refresh(shop, listed)
    assert (change.new, change.retired, change.changed) == (tuple(sorted(NEW)), tuple(RETIRED), ("item-7",))
    assert describe(change)[0] == "new: 20 items (item-100, item-101, item-102, item-103, item-104, ...)"
    assert not (run_dir(shop) / "refreshed-data").exists()  # a plan writes nothing

    artefact = refresh(shop, listed)
    assert artefact == served_artefact(shop) != trained
    verify_manifest(trained)
    after = load_vocabulary(artefact / "vocabulary.json")
    assert after.item_ids[: len(before)] == before.item_ids
    assert sorted(after.item_ids[len(before) :]) == sorted(NEW)
    assert after.retired == set(RETIRED)

    dataset, _ = load(run_dir(shop) / "data")
    users = held_out(dataset, "validation", spec_of_run(shop, len(before)))
    seven, gone = before.encode(["item-7"])[0], before.encode(RETIRED)
    unchanged = np.setdiff1d(np.arange(1, len(before) + 1), [seven, *gone])
    without_seven = (users.history != seven).all(axis=1)
    for precision in Precision:
        old, _ = scores_of(shop, trained, precision, users, len(before))
        new, items = scores_of(shop, artefact, precision, users, len(after))
        if precision is Precision.FP32:
            np.testing.assert_allclose(new[without_seven][:, unchanged], old[without_seven][:, unchanged], atol=1e-5)
            assert np.abs(new[without_seven][:, seven] - old[without_seven][:, seven]).max() > 1e-3
        assert not np.isin(items, gone).any()
        assert (items > len(before)).any()
    # A new item is scored as an item of the same genre is that nobody has touched.
    twin, new_item = after.encode(["item-94", "item-100"])  # both of genre 4
    exact, _ = scores_of(shop, artefact, Precision.FP32, users, len(after))
    assert np.corrcoef(exact[:, twin], exact[:, new_item])[0, 1] > 0.9


def test_same_list_changes_nothing_and_an_item_that_is_listed_again_returns(shop, listed, photos, tmp_path):
    assert refresh(shop, write(tmp_path / "same.parquet", products(range(LISTED), photos))).name == "export"
    artefact = refresh(shop, listed)
    manifest, times = read_manifest(artefact), (artefact / "manifest.json").stat().st_mtime_ns
    assert not plan_refresh(shop, listed)
    assert refresh(shop, listed) == artefact
    assert (artefact / "manifest.json").stat().st_mtime_ns == times

    again = write(tmp_path / "again.parquet", products(range(3, LISTED + 20), photos))
    change = plan_refresh(shop, again)
    assert (change.returned, change.changed, change.new, change.retired) == (("item-3", "item-4"), ("item-7",), (), ())
    found = load_vocabulary(refresh(shop, again) / "vocabulary.json")
    assert found.retired == set(RETIRED[:3])
    assert found.sha256 == manifest.metrics["vocabulary_sha256"]  # indices mean the same


def test_attributes_to_filter_by_follow_the_list(shop, listed, tmp_path):
    filters = {"genre": FilterColumn()}
    shop = shop.model_copy(update={"data": shop.data.model_copy(update={"filters": filters})})
    artefact = refresh(shop, listed)
    table, vocabulary = load_filters(artefact / "filters.npz"), load_vocabulary(artefact / "vocabulary.json")
    assert table.values.values == {"genre": ("all", "g0", "g1", "g2", "g3", "g4", "g5")}
    wanted = np.array([table.values.encode([("genre", "g2")], 1)], np.int32)
    fitting = {vocabulary.item_ids[item - 1] for item in np.flatnonzero(table.fits(wanted)[0])}
    assert fitting == {f"item-{i}" for i in range(5, LISTED + 20) if i % 6 == 2 or i == 7}
    items, _ = OnnxRunner(model_path(artefact, Precision.FP32), spec_of_artefact(read_manifest(artefact))).recommend(
        np.zeros((1, shop.history_length), np.int32),
        np.zeros((1, 16), np.int32),
        {"filter": np.resize(wanted, (1, shop.export.filter_length))},
    )
    assert {vocabulary.item_ids[item - 1] for item in items[0] if item} <= fitting
    assert (items > 0).sum() == min(len(fitting), 20)

    genre = pl.when(pl.col("item_id") == "item-50").then(pl.lit(["a new one"])).otherwise(pl.col("genre"))
    change = plan_refresh(shop, write(tmp_path / "other.parquet", pl.read_parquet(listed).with_columns(genre.alias("genre"))))
    assert change.refiltered == 1
    assert "other values to filter by: 1 items" in describe(change)


def test_interrupted_refresh_is_finished_by_the_next_one(shop, listed, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_export", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            refresh(shop, listed)
    assert served_artefact(shop).name == "export"
    assert not plan_refresh(shop, listed)
    assert refresh(shop, listed).name == "refreshed-export"


def test_lists_of_another_kind_are_refused_and_leave_the_artefact(shop, listed, photos, tmp_path):
    trained = served_artefact(shop)
    rows = products(range(LISTED), photos)
    for name, wrong, message in [
        ("other", rows.with_columns(item_id="x" + pl.col("item_id")), "found none of the 100 items of the run"),
        ("type", rows.with_columns(price=pl.lit("cheap")), "column 'price', row 1: found 'cheap', expected a number"),
        ("values", rows.with_columns(genre=pl.lit(["x"])), "found none of the 7 known values"),
        ("part", rows.head(30), r"found no row for 70 of 100 items"),
        ("columns", rows.drop("genre"), "expected also genre"),
    ]:
        with pytest.raises(DataError, match=message):
            refresh(shop, write(tmp_path / f"{name}.parquet", wrong))
    pl.DataFrame({"item_id": ["item-1"], "vector": [[1.0]]}).write_parquet(tmp_path / "image.parquet")
    with pytest.raises(DataError, match="found vectors of 1 numbers, expected 6 as in the training"):
        refresh(shop, listed)
    assert served_artefact(shop) == trained
    verify_manifest(trained)
    assert not list(run_dir(shop).glob("refreshed-*"))


@pytest.mark.server
def test_command_refreshes_a_live_server_without_a_failed_request(shop, listed, tmp_path, monkeypatch):
    config = shop.model_copy(update={"export": shop.export.model_copy(update={"repository": tmp_path / "repo"})})
    write_preset(tmp_path / "open.toml", config, "test")
    options = ["refresh", "--items", str(listed), "--preset", str(tmp_path / "open.toml")]
    dry = CliRunner().invoke(app, [*options, "--dry-run"])
    assert "new: 20 items" in dry.output
    assert not list(run_dir(shop).glob("refreshed-*"))
    fill_repository(served_artefact(config), config.export)
    first = load_golden(served_artefact(config) / "golden.npz")
    runner = OnnxRunner(model_path(refresh(config, listed), Precision.FP32), spec_of_run(config, 120))
    expected = {
        1: first,
        2: replace(first, **dict(zip(("items", "scores"), runner.recommend(first.history, first.exclude), strict=True))),
    }
    secret = ControlSecret()
    monkeypatch.setenv(SECRET_VARIABLE, secret.value)
    with (
        TritonServer(config.export.repository, free_ports(), tmp_path / "log", secret=secret) as server,
        RecommenderClient(server.url) as client,
    ):
        assert client.recommend(["item-9", NEW[0]]).unknown_ids == (NEW[0],)
        with Load(server.url, {1: expected[1]}) as load:
            load.expected = expected
            done = CliRunner().invoke(app, [*options, "--url", server.url, "--watch-s", "0.5", "--no-rehearsal"])
            assert "version 2 serves (before: 1)" in done.output
            time.sleep(0.3)
        assert (load.failed, load.wrong, load.seen) == ([], [], {1, 2})
        answers = [client.recommend([f"item-{i}"], k=20) for i in (*range(5, 15), 100)]
        assert not {item_id for answer in answers for item_id, _ in answer} & set(RETIRED)
        assert {item_id for answer in answers for item_id, _ in answer} & set(NEW)
        assert client.recommend([RETIRED[0], NEW[0]]).unknown_ids == ()  # what is retired may be in a history
        again = CliRunner().invoke(app, [*options, "--url", server.url])
        assert "version 2 serves it already" in again.output


def test_approximate_head_grows_and_forgets(shop, listed):
    """New rows are ranked and retired ones are gone, without a build; other precisions are not made again."""
    export = shop.export.model_copy(update={"head": "approximate", "engines": "off"})
    shop = shop.model_copy(update={"export": export})
    run_stage(shop, "export")
    trained, artefact = served_artefact(shop), refresh(shop, listed)
    manifest = verify_manifest(artefact)
    assert manifest.metrics["head"] == "approximate"
    assert not (artefact / "fp16").exists()
    folders = [head_folder(folder) for folder in (trained, artefact)]
    assert sha256_of_file(folders[0] / "index.faiss") == sha256_of_file(folders[1] / "index.faiss")
    head = json.loads((artefact / "report.json").read_text())["head"]
    assert head["rows_outside_index"] == len(NEW) + 1
    vocabulary = load_vocabulary(artefact / "vocabulary.json")
    spec = spec_of_artefact(manifest)
    histories = np.repeat(np.arange(6, LISTED, dtype=np.int32)[:, None], spec.history_length, axis=1)
    items, _ = ApproximateRunner(folders[1], spec).recommend(histories, np.zeros((len(histories), spec.exclude_length), np.int32))
    found = {vocabulary.item_ids[item - 1] for item in items.ravel() if item}
    assert not found & set(RETIRED)
    assert found & set(NEW)
