import numpy as np
import pytest

from distilrec.core.specs import RecommenderSpec
from distilrec.data.dataset import Dataset, exclude_length_for, held_out, load_dataset, older_items, requests
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


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("max_users", [None, 7])
def test_requests_are_those_of_one_user_after_another(repeats, max_users):
    random = np.random.default_rng(0)
    lengths = random.integers(0, 30, 40)
    cuts = np.sort(np.stack([random.integers(0, lengths + 1), random.integers(0, lengths + 1)]), axis=0)
    everybody = Dataset(random.integers(1, 13, lengths.sum()).astype(np.int32), np.cumsum([0, *lengths]), *cuts, item_count=12)
    spec = RecommenderSpec(12, history_length=4, exclude_length=5, top_k=5, repeats=repeats)
    expected = []
    for user, (start, end) in enumerate(zip(everybody.validation_start, everybody.test_start, strict=True)):
        seen, future = np.split(everybody.sequence(user)[:end], [start])
        truth = sorted(set(future.tolist()) - (set() if repeats else set(seen.tolist())))
        if len(seen) and truth:
            expected.append((user, *requests([seen[-4:] if repeats else seen], spec), truth))
    unjudged = 40 - len(expected)
    expected = expected[:max_users]
    found = held_out(everybody, "validation", spec, max_users)
    assert found.users.tolist() == [user for user, *_ in expected]
    assert np.array_equal(found.history, np.concatenate([history for _, history, _, _ in expected]))
    assert np.array_equal(found.exclude, np.concatenate([exclude for _, _, exclude, _ in expected]))
    assert [[item for item in row if item] for row in found.truth.tolist()] == [truth for *_, truth in expected]
    older = [len(set(everybody.sequence(user)[: everybody.validation_start[user]][:-4].tolist())) for user, *_ in expected]
    truncated = 0 if repeats else sum(count > 5 for count in older)
    assert (found.unjudged_users, found.truncated_users) == (unjudged, truncated)
    assert repeats or max_users or truncated > 0


def test_nobody_is_held_out_of_nothing():
    nothing = np.zeros(0, np.int64)
    found = held_out(
        Dataset(np.zeros(0, np.int32), np.zeros(1, np.int64), nothing, nothing, 3), "test", RecommenderSpec(3, 2, 2, 2)
    )
    assert (found.history.shape, found.truth.shape, found.unjudged_users) == ((0, 2), (0, 1), 0)
