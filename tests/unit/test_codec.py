import numpy as np
import pytest

from clients.codec import decode, encode
from clients.errors import InvalidRequest
from distilrec.data.vocabulary import Vocabulary
from distilrec.specs import RecommenderSpec

VOCABULARY = Vocabulary(tuple("abcdefgh"), tuple("ABCDEFGH"))
SPEC = RecommenderSpec(8, history_length=3, exclude_length=3, top_k=5)


def test_history_is_left_padded_and_typed_for_the_wire():
    request = encode(["a", "c"], ["h"], 5, VOCABULARY, SPEC)
    assert request.history.tolist() == [[0, 1, 3]]
    assert request.exclude.tolist() == [[8, 0, 0]]
    assert request.history.dtype == request.exclude.dtype == np.int32


def test_long_history_keeps_the_newest_and_never_recommends_the_older():
    request = encode(list("abcdef"), ["h"], 5, VOCABULARY, SPEC)
    assert request.history.tolist() == [[4, 5, 6]]
    assert request.exclude.tolist() == [[8, 3, 2]]  # the wish first, then the newest of the older


def test_unknown_ids_are_left_out_and_told():
    request = encode(["a", "?", "b"], ["!"], 5, VOCABULARY, SPEC)
    assert request.history.tolist() == [[0, 1, 2]]
    assert request.unknown_ids == ("?", "!")


def test_empty_request():
    request = encode([], [], 1, VOCABULARY, SPEC)
    assert not request.history.any()
    assert not request.exclude.any()


@pytest.mark.parametrize("k", [0, -1, 6])
def test_k_out_of_range(k):
    with pytest.raises(InvalidRequest, match=f"found k = {k}, expected 1 to 5"):
        encode([], [], k, VOCABULARY, SPEC)


@pytest.mark.parametrize("history", ["abc", [1, 2], [None]])
def test_ids_that_are_not_strings(history):
    with pytest.raises(InvalidRequest, match="expected a sequence of item ids"):
        encode(history, [], 5, VOCABULARY, SPEC)


def test_too_many_to_exclude():
    with pytest.raises(InvalidRequest, match="found 4 ids to exclude, expected at most 3"):
        encode([], list("abcd"), 5, VOCABULARY, SPEC)
    encode([], ["a", "a", "b", "b", "?"], 5, VOCABULARY, SPEC)  # repeated and unknown ones take no room


def test_decode_drops_empty_ranks():
    request = encode(["?"], [], 4, VOCABULARY, SPEC)
    items, scores = np.array([[8, 1, 0, 0, 0]], np.int32), np.array([[2.5, 1.0, -3e38, -3e38, -3e38]], np.float32)
    answer = decode(items, scores, request, VOCABULARY, "7")
    assert list(answer) == [("h", 2.5), ("a", 1.0)]
    assert len(answer) == 2
    assert answer.unknown_ids == ("?",)
    assert answer.model_version == "7"
    assert decode(items, scores, encode([], [], 1, VOCABULARY, SPEC), VOCABULARY, "7").ids == ("h",)
