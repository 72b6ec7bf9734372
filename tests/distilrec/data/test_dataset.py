import numpy as np

from distilrec.core.specs import RecommenderSpec
from distilrec.data.dataset import Dataset, exclude_length_for, held_out, load_dataset, older_items
from distilrec.data.filtering import k_core


def dataset() -> Dataset:
    items = np.array([1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 2], np.int32)
    return Dataset(items, np.array([0, 6, 8, 11]), np.array([4, 2, 1]), np.array([5, 2, 2]), item_count=8)


def test_history_is_the_newest_and_older_items_are_excluded():
    users = held_out(dataset(), "test", RecommenderSpec(8, history_length=3, exclude_length=4, top_k=5))
    assert users.history[0].tolist() == [3, 4, 5]
    assert users.exclude[0].tolist() == [2, 1, 0, 0]
    assert users.truth[0].tolist() == [6]


def test_newest_of_the_older_items_are_excluded_when_not_all_fit():
    users = held_out(dataset(), "test", RecommenderSpec(8, history_length=2, exclude_length=2, top_k=5))
    assert users.exclude[0].tolist() == [3, 2]


def test_users_without_anything_new_are_left_out_and_counted():
    users = held_out(dataset(), "test", RecommenderSpec(8, 3, 4, 5))
    assert users.users.tolist() == [0]  # user 1 has no test item; user 2's was seen before
    assert users.unjudged_users == 2


def test_validation_sees_no_test_item():
    users = held_out(dataset(), "validation", RecommenderSpec(8, 10, 4, 5))
    assert users.users.tolist() == [0, 2]
    assert users.history[0].tolist() == [0] * 6 + [1, 2, 3, 4]
    assert users.truth.tolist() == [[5], [2]]


def test_seen_items_that_do_not_fit_are_counted():
    assert held_out(dataset(), "test", RecommenderSpec(8, 2, 2, 5)).truncated_users == 1


def test_repeats_leave_seen_items_in_the_ranking_and_count_them():
    users = held_out(dataset(), "test", RecommenderSpec(8, history_length=2, exclude_length=4, top_k=5, repeats=True))
    assert users.users.tolist() == [0, 2]  # user 2's test item was seen before
    assert users.truth.tolist() == [[6], [2]]
    assert users.history.tolist() == [[4, 5], [1, 2]]
    assert not users.exclude.any()
    assert users.choices["repeats"].tolist() == [[1], [1]]
    assert users.rows(np.array([1])).choices["repeats"].tolist() == [[1]]


def test_training_counts_use_the_training_part_alone():
    assert dataset().training_counts().tolist() == [0, 2, 1, 1, 1, 0, 0, 1, 1]


def test_saved_and_loaded(tmp_path):
    dataset().save(tmp_path)
    loaded = load_dataset(tmp_path, 8)
    assert loaded.sequence(1).tolist() == [7, 8]
    assert loaded.item_count == 8


def test_k_core_repeats_until_stable():
    import polars as pl

    # y has one user; without it, b has one item; without b, x keeps a and c only.
    rows = [("a", "x"), ("a", "z"), ("b", "x"), ("b", "y"), ("c", "x"), ("c", "z")]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    assert k_core(frame, 2).rows() == [("a", "x"), ("a", "z"), ("c", "x"), ("c", "z")]


def test_exclude_length_has_room_for_the_longest_history_and_64_more():
    assert older_items(dataset(), 2).tolist() == [4, 0, 1]
    assert older_items(dataset(), 1).tolist() == [5, 1, 2]
    lengths = [exclude_length_for(np.array(older), 10_000, 50) for older in ([], [64], [65], [128, 686], [3000])]
    assert lengths == [128, 128, 192, 768, 2048]
    assert [exclude_length_for(np.array([40]), items, 50) for items in (20, 120, 170, 1000)] == [40, 62, 112, 128]
    assert held_out(dataset(), "test", RecommenderSpec(8, 1, 1, 5)).truncated_users == 1
