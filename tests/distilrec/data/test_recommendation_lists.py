"""Lists of other people's models: what is read, what is counted, what is refused."""

import numpy as np
import polars as pl
import pytest

from distilrec.core.errors import DataError
from distilrec.data.recommendation_lists import read_lists
from distilrec.data.vocabulary import Vocabulary

VOCABULARY = Vocabulary(("10", "20", "30", "40"), ("a", "b", "c", "d"))


def write(folder, **columns):
    path = folder / "lists.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return path


def test_best_first_whatever_the_order_of_the_file(tmp_path):
    path = write(
        tmp_path,
        user_id=["u", "v", "w"],
        position=[2, 1, 3],
        item_ids=[["10", "999", "30", "20", "10"], [], ["40"]],
        scores=[[0.1, 9.0, 0.3, 0.2, 0.5], None, [1.0]],
        note=["is", "not", "read"],
    )
    lists = read_lists(path, VOCABULARY)
    assert len(lists) == 3
    assert lists.user_ids == ("u", "v", "w")
    assert lists.positions.tolist() == [2, 1, 3]
    assert lists.histories is None
    assert (lists.owners.tolist(), lists.items.tolist(), lists.scores.tolist()) == (
        [0, 0, 0, 2],
        [1, 3, 2, 4],
        [0.5, 0.3, 0.2, 1.0],
    )
    assert (lists.unknown_items, lists.repeated_items) == (1, 1)


def test_without_scores_the_rank_is_the_score(tmp_path):
    lists = read_lists(write(tmp_path, user_id=[7, 8], item_ids=[[30, 999, 10, 30], [20, 40]]), VOCABULARY)
    assert lists.user_ids == ("7", "8")
    assert lists.positions is None
    assert lists.items.tolist() == [3, 1, 2, 4]
    np.testing.assert_allclose(lists.scores, -np.log([1, 2, 1, 2]))
    assert not lists.has_scores


def test_histories_count_where_users_are_named_too_and_a_folder_is_one_file(tmp_path):
    for part, history in enumerate((["10", "20"], [])):
        frame = pl.DataFrame(
            {"user_id": ["u"], "history": [history], "item_ids": [["40"]]}, schema_overrides={"history": pl.List(pl.String)}
        )
        frame.write_parquet(tmp_path / f"part-{part}.parquet")
    lists = read_lists(tmp_path, VOCABULARY)
    assert lists.user_ids is None
    assert lists.histories == (("10", "20"), ())
    assert lists.owners.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user_id": ["u"], "items": [["10"]]}, r"found the columns 'user_id', 'items', expected 'item_ids'"),
        ({"item_ids": [["10"]]}, r"expected 'item_ids', and 'user_id' or 'history'"),
        ({"user_id": ["u"], "item_ids": ["10"]}, r"'item_ids': found String, expected lists of item ids"),
        ({"user_id": ["u"], "item_ids": [[1.5]]}, r"'item_ids': found List\(Float64\), expected lists of item ids"),
        ({"user_id": [0.5], "item_ids": [["10"]]}, r"'user_id': found Float64, expected text or whole numbers"),
        ({"history": ["10 20"], "item_ids": [["10"]]}, r"'history': found String, expected lists of item ids"),
        (
            {"user_id": ["u"], "item_ids": [["10"]], "scores": [["high"]]},
            r"'scores': found List\(String\), expected lists of numbers",
        ),
        ({"user_id": ["u"], "item_ids": [["10"]], "position": ["1"]}, r"'position': found String, expected whole numbers"),
        (
            {"user_id": ["u", "v"], "item_ids": [["10"]] * 2, "position": [1, 0]},
            r"'position', row 2: found 0, expected 1 for the list",
        ),
        (
            {"user_id": ["u", "v"], "item_ids": [["10"], ["10", "20"]], "scores": [[1.0], [1.0]]},
            r"'scores', row 2: found 1 value\(s\), \[1.0\], expected as many scores as 'item_ids' has items \(1 row",
        ),
        (
            {"user_id": ["u"], "item_ids": [["10"]], "scores": [[float("nan")]]},
            r"'scores', row 1: found .*nan.*, expected finite numbers",
        ),
        (
            {"user_id": ["u"], "item_ids": [["10"]], "scores": [[None]]},
            r"'scores', row 1: found .*expected (lists of|finite) numbers",
        ),
    ],
)
def test_a_malformed_file_is_a_named_error(tmp_path, columns, message):
    with pytest.raises(DataError, match=r"lists\.parquet: .*" + message):
        read_lists(write(tmp_path, **columns), VOCABULARY)


def test_what_is_no_parquet_file_is_a_named_error(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: found no such file, expected a Parquet file"):
        read_lists(tmp_path / "nowhere", VOCABULARY)
    with pytest.raises(DataError, match=r"found a folder without one, expected a Parquet file"):
        read_lists(tmp_path, VOCABULARY)
    (tmp_path / "broken.parquet").write_text("user_id,item_ids\n")
    with pytest.raises(DataError, match=r"broken\.parquet: cannot be read .* expected a whole Parquet file"):
        read_lists(tmp_path, VOCABULARY)


def test_files_of_a_folder_have_the_same_columns(tmp_path):
    pl.DataFrame({"user_id": ["u"], "item_ids": [["10"]]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"user_id": ["u"], "item_ids": [["10"]], "scores": [[1.0]]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(
        DataError, match=r"b\.parquet: found the columns user_id, item_ids, scores, expected user_id, item_ids as in a\.parquet"
    ):
        read_lists(tmp_path, VOCABULARY)
