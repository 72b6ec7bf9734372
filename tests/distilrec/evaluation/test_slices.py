import numpy as np
import pytest

from distilrec.core.errors import DataError
from distilrec.core.specs import RecommenderSpec
from distilrec.data import attributes
from distilrec.data.dataset import Dataset, held_out
from distilrec.evaluation.slices import attribute_slices, head_items, history_slices, truth_slices, user_slices


def members(slices) -> dict[str, list[int]]:
    return {part.name: np.flatnonzero(part.users).tolist() for part in slices}


def test_head_is_the_most_popular_fifth():
    counts = np.array([0, 5, 9, 1, 9, 0, 7, 2, 2, 2, 2])
    assert np.flatnonzero(head_items(counts)).tolist() == [2, 4]
    assert np.flatnonzero(head_items(np.array([0, 1, 1, 1, 1, 1, 1]))).tolist() == [1, 2]  # six items: rounded up, ties by index


def test_truth_is_head_when_half_of_it_is():
    counts = np.array([0, 9, 1, 1, 1, 1])  # item 1 is the head
    truth = np.array([[1, 0, 0], [2, 0, 0], [1, 2, 0], [1, 2, 3]], np.int32)
    assert members(truth_slices(truth, counts)) == {"head": [0, 2], "tail": [1, 3]}


def test_history_is_split_at_the_median():
    assert members(history_slices(np.array([3, 9, 4, 4, 7]))) == {"short history": [0, 2, 3], "long history": [1, 4]}


def test_one_slice_for_each_value_unknown_last():
    found = attribute_slices("plan", ("b", "a", "unknown", "b"), np.array([0, 1, 2, 3]))
    assert list(members(found).items()) == [("plan: a", [1]), ("plan: b", [0, 3]), ("plan: unknown", [2])]


def test_slices_are_of_the_held_out_users():
    assert members(attribute_slices("plan", ("a", "b", "a", "b"), np.array([1, 2]))) == {"plan: a": [1], "plan: b": [0]}


def test_rare_values_are_one_slice():
    values = tuple(name for place, name in enumerate("abcdefghijk") for _ in range(20 - place))
    names = list(members(attribute_slices("job", values, np.arange(len(values)))))
    assert names == [*(f"job: {name}" for name in "abcdefgh"), "job: the rest"]


def test_numbers_are_cut_into_bands_of_as_many_users():
    ages = (*map(str, range(20, 60)), "unknown")
    found = attribute_slices("age", ages, np.arange(41))
    assert [part.name for part in found] == ["age: 20 to 29", "age: 30 to 39", "age: 40 to 49", "age: 50 to 59", "age: unknown"]
    assert [part.users.sum() for part in found] == [10, 10, 10, 10, 1]


def test_few_numbers_and_mixed_values_are_values():
    few = attribute_slices("stars", ("5", "10", "5"), np.arange(3))
    assert [part.name for part in few] == ["stars: 5", "stars: 10"]
    mixed = (*map(str, range(9)), "many", "nan")
    assert "n: the rest" in members(attribute_slices("n", mixed, np.arange(11)))


def test_every_user_is_in_one_slice_of_each_kind_and_small_ones_are_left_out():
    users, random = 300, np.random.default_rng(0)
    lengths = random.integers(4, 30, users)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = np.concatenate([random.permutation(40)[:n] + 1 for n in lengths]).astype(np.int32)
    dataset = Dataset(items, offsets, lengths - 2, lengths - 1, item_count=40)
    judged = held_out(dataset, "test", RecommenderSpec(40, 10, 30, 10))
    rare = ("a",) * 250 + ("b",) * 40 + ("c",) * 10
    slices = {part.name: part for part in user_slices(dataset, judged, "test", {"plan": rare, "same": ("x",) * users})}
    assert {"head", "tail", "short history", "long history", "plan: a", "plan: b"} == set(slices)
    for one, other in (("head", "tail"), ("short history", "long history")):
        assert (slices[one].users ^ slices[other].users).all()
    counts = dataset.training_counts()
    head = set(np.argsort(-counts[1:], kind="stable")[:8] + 1)
    assert slices["head"].users.tolist() == [dataset.sequence(user)[-1] in head for user in judged.users]


def test_attributes_are_saved_and_loaded(tmp_path):
    assert attributes.load(tmp_path) == {}
    attributes.save({"plan": ("a", "ü|")}, tmp_path)
    assert attributes.load(tmp_path) == {"plan": ("a", "ü|")}
    (tmp_path / attributes.FILE_NAME).write_text("[]")
    with pytest.raises(DataError, match=r"attributes\.json: found no attributes of users"):
        attributes.load(tmp_path)
