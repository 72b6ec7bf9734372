"""`update` on the tiny shop: new events and items into a trained student."""

import shutil

import numpy as np
import polars as pl
import pytest

from distilrec.core.manifest import read_manifest, verify_manifest
from distilrec.data.vocabulary import load_vocabulary
from distilrec.pipeline.stages import generation, run_dir, served_artefact
from distilrec.pipeline.update import update

USERS, ITEMS, GENRES = 240, 90, 6


def events(day, users=range(120), items=ITEMS + 6, each=4):
    """Events of a day: users of a genre by their number, and items that the training has not seen."""
    random = np.random.default_rng(day)
    rows = [
        (f"u{user:03d}", f"item-{item}", 10_000.0 * day + 10 * place)
        for user in users
        for place, item in enumerate(random.choice(np.arange(user % GENRES, items, GENRES), each, replace=False))
    ]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def write(path, frame):
    frame.write_parquet(path)
    return path


@pytest.fixture
def shop(shop_run, shop_config, tmp_path, monkeypatch):
    """Settings of a copy of the run, in a working directory of its own, whose updates are taken whatever they lose."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shop_run, run_dir(shop_config))
    settings = {"epochs": 2, "exemplars": 100, "judged_users": 60, "max_loss": 0.99}
    return shop_config.model_copy(update={"update": shop_config.update.model_copy(update=settings)})


def test_update_learns_new_events_and_items(shop, tmp_path):
    steps = []
    trained = served_artefact(shop)
    first = update(shop, write(tmp_path / "1.parquet", events(1)), report=steps.append)
    print("\n".join(steps))
    before, after = load_vocabulary(trained / "vocabulary.json"), load_vocabulary(first / "vocabulary.json")
    assert after.item_ids[: len(before)] == before.item_ids
    assert set(after.item_ids[len(before) :]) == {f"item-{i}" for i in range(ITEMS, ITEMS + 6)}
    verify_manifest(first)
    assert generation(shop).number == 1
