"""What is known of items: read from files, kept, and turned into what models read."""

import numpy as np
import polars as pl
import pytest

from distilrec.config import DataConfig
from distilrec.core.errors import DataError, DataWarning
from distilrec.core.specs import RecommenderSpec
from distilrec.data.cold import ColdInteractions, choose_cold_items, cold_held_out
from distilrec.data.content import category_bags, dense_blocks, load_content
from distilrec.data.dataset import Dataset
from distilrec.data.stage import prepare

ITEMS = """item_id,title,brand,tags,price,about
a,A,OPI,nail|red,10,shiny
b,B,OPI,nail,30,
c,C,Rare,red|red| ,,dull
d,D,,,20,
"""


@pytest.fixture
def shop(tmp_path):
    """Settings of a shop with four users, three touched items and an untouched one, d."""
    rows = [f"u{user},{item},{time}" for user in range(4) for time, item in enumerate("abca"[user % 2 :] + "b")]
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    (tmp_path / "items.csv").write_text(ITEMS)

    def settings(**changes):
        features = {"categories": ["brand", "tags"], "separator": "|", "numbers": ["price"], "texts": ["about"]}
        base = {"interactions": tmp_path / "log.csv", "items": tmp_path / "items.csv", "features": features, "k_core": 1}
        return DataConfig.model_validate(base | {"split": "leave_one_out"} | changes)

    return settings


def vectors_of(tmp_path, ids, vectors):
    pl.DataFrame({"item_id": ids, "vector": vectors}, strict=False).write_parquet(tmp_path / "vectors.parquet")
    return {"image": {"file": tmp_path / "vectors.parquet"}}


def test_untouched_items_come_after_the_others_with_their_content(shop, tmp_path):
    prepared = prepare(shop(untouched=True))
    assert prepared.vocabulary.item_ids == ("a", "b", "c", "d")
    assert prepared.dataset.item_count == 4
    assert prepared.dataset.training_counts()[4] == 0
    prepared.save(tmp_path)
    schema, content = load_content(tmp_path)
    assert schema.categories == {"brand": ("OPI",), "tags": ("nail", "red")}  # "Rare" is the value of one item alone
    assert (schema.numbers["price"].mean, schema.numbers["price"].std) == (20.0, pytest.approx(8.165, abs=1e-3))
    assert content.features["about"].to_list() == ["shiny", "", "dull", ""]


def test_values_become_bags_with_equal_weight_for_each_category(shop):
    schema, content = prepare(shop(untouched=True)).content
    bags = category_bags(schema, content)
    assert bags.count == 3
    assert bags.offsets.tolist() == [0, 3, 5, 6, 6]
    assert bags.values.tolist() == [0, 1, 2, 0, 1, 2]  # a: OPI, nail, red; b: OPI, nail; c: red once
    assert bags.weights.tolist() == [1.0, 0.5, 0.5, 1.0, 1.0, 1.0]


def test_numbers_are_scaled_and_say_that_they_are_missing(shop):
    (block,) = dense_blocks(*prepare(shop(untouched=True)).content)
    np.testing.assert_allclose(block, [[-1.2247, 0], [1.2247, 0], [0, 1], [0, 0]], atol=1e-4)


def test_lists_in_parquet_and_whole_numbers_that_became_floats_are_values(shop, tmp_path):
    table = pl.read_csv(tmp_path / "items.csv").with_columns(
        tags=pl.Series([["nail", "red"], ["nail"], ["red", None], None]), brand=pl.Series([1.0, 1.0, 2.0, None])
    )
    table.write_parquet(tmp_path / "items.parquet")
    schema, _ = prepare(shop(items=tmp_path / "items.parquet", untouched=True)).content
    assert schema.categories == {"brand": ("1",), "tags": ("nail", "red")}


def test_vectors_have_unit_length_and_items_without_one_have_zeros(shop, tmp_path):
    files = vectors_of(tmp_path, ["c", "a", "x"], [[0.0, 2.0], [3.0, 4.0], [1.0, 1.0]])
    with pytest.warns(DataWarning, match=r"image: 1 item\(s\) have no vector \(first: 'b'\)"):
        schema, content = prepare(shop(vectors=files)).content
    assert content.vectors["image"].tolist() == [[3, 4], [0, 0], [0, 2]]
    np.testing.assert_allclose(dense_blocks(schema.selected(["image"]), content)[0], [[0.6, 0.8], [0, 0], [0, 1]], atol=1e-6)


def test_vectors_of_numpy_have_a_file_of_ids(shop, tmp_path):
    np.save(tmp_path / "v.npy", np.eye(3))
    (tmp_path / "ids.txt").write_text("c\nb\na\n")
    _, content = prepare(shop(vectors={"sound": {"file": tmp_path / "v.npy", "ids": tmp_path / "ids.txt"}})).content
    assert content.vectors["sound"].tolist() == np.eye(3)[::-1].tolist()
    (tmp_path / "ids.txt").write_text("c\nb\n")
    with pytest.raises(DataError, match=r"found an array of float64 \[3, 3\] and 2 ids"):
        prepare(shop(vectors={"sound": {"file": tmp_path / "v.npy", "ids": tmp_path / "ids.txt"}}))


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        (["a", "b", "c"], [[1.0, 2.0], [1.0], [1.0, 2.0]], r"row 2 \(item 'b'\): found one with 1 numbers, expected vectors of 2"),
        (["a", "b"], [[1.0, 2.0], [float("nan"), 1.0]], r"row 2 \(item 'b'\): found NaN"),
        (["a", "b", "a"], [[1.0], [2.0], [3.0]], r"row 1: found item 'a' twice"),
        (["a", "b"], [[1.0], None], r"row 2 \(item 'b'\): found none"),
        (["x"], [[1.0]], r"found none of the 3 items of the catalogue among 1 ids \(the first: 'x'\)"),
        (["a"], [["red"]], r"found List\(String\), expected lists of numbers"),
    ],
)
def test_wrong_vectors_are_refused_with_their_row(shop, tmp_path, ids, vectors, message):
    with pytest.raises(DataError, match=message):
        prepare(shop(vectors=vectors_of(tmp_path, ids, vectors)))


def test_wrong_features_are_refused_with_their_row(shop, tmp_path):
    (tmp_path / "items.csv").write_text(ITEMS.replace("30", "cheap"))
    with pytest.raises(DataError, match=r"column 'price', row 3: found 'cheap', expected a number, or nothing"):
        prepare(shop())
    (tmp_path / "items.csv").write_text(ITEMS.replace("nail|red", "|".join(map(str, range(10_000)))))
    with pytest.raises(DataError, match=r"column 'tags', row 2: .* expected at most 1,000 values"):
        prepare(shop())


def test_cold_items_leave_the_sequences_and_become_right_answers(shop):
    assert choose_cold_items(["b", "c", "a"], 0.3) == ["c"]
    prepared = prepare(shop(cold_fraction=0.3))
    assert prepared.vocabulary.item_ids == ("a", "b", "c")
    assert [prepared.dataset.sequence(user).tolist() for user in range(2)] == [[1, 2, 1, 2], [2, 1, 2]]
    assert prepared.cold.items.tolist() == [3] * 4
    assert prepared.cold.seen.tolist() == [2, 1, 2, 1]
    users = cold_held_out(prepared.dataset, prepared.cold, RecommenderSpec(3, 4, 2, 3))
    assert users.history.tolist() == [[0, 0, 1, 2], [0, 0, 0, 2]] * 2
    assert users.truth.tolist() == [[3]] * 4


def test_newest_cold_item_after_something_else_is_the_right_answer():
    dataset = Dataset(np.array([1, 2, 3], np.int32), np.array([0, 2, 3]), np.array([2, 1]), np.array([2, 1]), item_count=6)
    cold = ColdInteractions(np.array([0, 0, 1]), np.array([4, 5, 6], np.int32), np.array([1, 2, 0]))
    users = cold_held_out(dataset, cold, RecommenderSpec(6, 3, 2, 3))
    assert (users.users.tolist(), users.truth.tolist(), users.unjudged_users) == ([0], [[5]], 1)
    assert users.history.tolist() == [[0, 1, 2]]
