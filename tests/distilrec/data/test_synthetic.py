"""The invented shop: the same rows each time, and the properties that its docstring promises."""

import json

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from distilrec.core.errors import DataError
from distilrec.data import synthetic
from distilrec.data.synthetic import FACTS, INTERACTIONS, ITEMS, Shop, write_shop

SHOP = Shop(users=3_000, items=2_000, events=30_000, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shops") / "shop"
    write_shop(SHOP, folder)
    return folder


@pytest.fixture(scope="module")
def log(folder):
    return pl.read_parquet(folder / INTERACTIONS / "*.parquet")


def test_users_items_and_events_are_as_many_as_asked_for(folder, log):
    assert json.loads((folder / FACTS).read_text())["rows"] == len(log) == pytest.approx(SHOP.events, rel=0.05)
    assert sorted(log["user_id"].unique()) == list(range(1, SHOP.users + 1))
    assert log.group_by("user_id").len()["len"].min() >= 2
    items = pl.read_parquet(folder / ITEMS)
    assert items["item_id"].to_list() == list(range(1, SHOP.items + 1))
    assert log["item_id"].is_in(items["item_id"].to_list()).all()


def test_the_same_settings_give_the_same_rows_and_parts_depend_on_no_others(tmp_path, log, monkeypatch):
    write_shop(SHOP, tmp_path / "again")
    assert_frame_equal(pl.read_parquet(tmp_path / "again" / INTERACTIONS / "*.parquet"), log)
    monkeypatch.setattr(synthetic, "_EVENTS_IN_PART", 10_000)
    write_shop(SHOP, tmp_path / "parts")
    assert len(list((tmp_path / "parts" / INTERACTIONS).iterdir())) == 3


def test_sessions_are_in_order_of_time_and_belong_to_one_user_and_category(folder, log):
    log = log.join(pl.read_parquet(folder / ITEMS), on="item_id")
    sessions = log.group_by("session_id").agg(pl.col("user_id", "category").n_unique())
    assert (sessions["user_id"] == 1).all()
    assert (sessions["category"] == 1).all()
    steps = log.sort("user_id", maintain_order=True).select(pl.col("timestamp").diff().over("user_id"))
    assert steps.min().item() >= 0


def test_users_keep_their_tastes_and_items_follow_each_other(folder, log):
    log = log.join(pl.read_parquet(folder / ITEMS), on="item_id", maintain_order="left")
    shares = log.group_by("user_id", "category").len().group_by("user_id").agg(pl.col("len").max() / pl.col("len").sum())
    assert shares["len"].mean() > 0.5
    same_set = pl.col("title") == pl.col("title").shift(1).over("session_id")
    assert log.select(same_set.mean()).item() > 0.35


def test_popularity_is_skewed_and_moves(log):
    counts = log.group_by("item_id").len().sort("len", descending=True)["len"]
    assert counts.head(SHOP.items // 10).sum() > 0.4 * len(log)

    def best(part):
        return set(part.group_by("item_id").len().sort("len", descending=True).head(100)["item_id"])

    log = log.sort("timestamp")
    overlap = len(best(log.head(6_000)) & best(log.tail(6_000)))
    assert 5 < overlap < 70


def test_a_shop_that_cannot_be_is_refused_and_a_folder_of_others_stays(tmp_path):
    with pytest.raises(DataError, match="found 10 users, 50 items"):
        Shop(users=10, items=50, events=100)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(DataError, match="has not written"):
        write_shop(SHOP, tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
