import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.codec import EncodedQuery, Query, check_k, decode, encode, pack
from clients.errors import ClientError, InvalidRequest
from clients.wire import front_door_request, infer_request, read_answer, read_front_door
from distilrec.core.specs import PADDING, RecommenderSpec
from distilrec.data.vocabulary import Vocabulary

VOCABULARY = Vocabulary(tuple("abcdefgh"), tuple("ABCDEFGH"))
SPEC = RecommenderSpec(8, history_length=3, exclude_length=3, top_k=5)


def encoded(history, exclude=()):
    return encode(Query(history, exclude), VOCABULARY, SPEC)


def decoded(items, scores, rows, k, version="7"):
    arrays = np.array(items, np.int32), np.array(scores, np.float32)
    return decode(*arrays, rows, k, vocabulary=VOCABULARY, model_version=version, latency_ms=1.5)


def test_history_is_left_padded_and_typed_for_the_wire():
    history, exclude, _ = pack([encoded(["a", "c"], ["h"]), encoded([])], SPEC)
    assert history.tolist() == [[0, 1, 3], [0, 0, 0]]
    assert exclude.tolist() == [[8, 0, 0], [0, 0, 0]]
    assert history.dtype == exclude.dtype == np.int32


def test_long_history_keeps_the_newest_and_never_recommends_the_older():
    row = encoded(list("abcdef"), ["h"])
    assert row.history == [4, 5, 6]
    assert row.exclude == [8, 3, 2]  # the wish first, then the newest of the older
    assert row.overflow == {1}
    (answer,) = decoded([[1, 7, 8, 0, 0]], [[5, 4, 3, 0, 0]], [row], 2)
    assert answer.ids == ("g", "h")


def test_unknown_ids_are_left_out_and_reported():
    row = encoded(["a", "?", "b"], ["!"])
    assert row.history == [1, 2]
    assert row.unknown_ids == ("?", "!")


@pytest.mark.parametrize("k", [0, -1, 6, "5", 2.0, None, False])
def test_k_out_of_range(k):
    with pytest.raises(InvalidRequest, match="found k = "):
        check_k(k, SPEC)
    check_k(np.int64(5), SPEC)


@pytest.mark.parametrize("history", ["abc", b"abc", [1, 2], [None], [b"a"], None, 3, [["a"]]])
def test_ids_that_are_not_strings(history):
    with pytest.raises(InvalidRequest, match=r"history: found .*, expected a sequence of item ids"):
        encoded(history)


def test_ids_from_numpy_and_generators():
    assert encoded(np.array(["a", "b"])).history == encoded(item_id for item_id in "ab").history == [1, 2]


def test_too_many_to_exclude():
    with pytest.raises(InvalidRequest, match="found 4 ids to exclude, expected at most 3"):
        encoded([], list("abcd"))
    encoded([], ["a", "a", "b", "b", "?"])  # repeated and unknown ones take no room


def test_decode_drops_empty_ranks():
    row = encoded(["?"])
    items, scores = [[8, 1, 0, 0, 0]], [[2.5, 1.0, -3e38, -3e38, -3e38]]
    (answer,) = decoded(items, scores, [row], 4)
    assert list(answer) == [("h", 2.5), ("a", 1.0)]
    assert len(answer) == 2
    assert answer.titles == ("H", "A")
    assert answer.unknown_ids == ("?",)
    assert (answer.model_version, answer.latency_ms) == ("7", 1.5)
    assert decoded(items, scores, [row], 1)[0].ids == ("h",)


# Ids as shops have them, and as nobody expects them: any text, also empty, also not in Latin letters.
ids = st.text(max_size=6)


@given(st.lists(ids, unique=True, min_size=1, max_size=30), st.data())
def test_whatever_the_ids_are(item_ids, data):
    """Indices are within the catalogue, the newest known items arrive in order, and nothing that was seen comes back."""
    vocabulary = Vocabulary(tuple(item_ids), tuple(item_ids))
    spec = RecommenderSpec(len(item_ids), 4, 3, min(6, len(item_ids)))
    history = data.draw(st.lists(st.sampled_from(item_ids) | ids, max_size=20))
    exclude = data.draw(st.lists(st.sampled_from(item_ids) | ids, max_size=3))
    row = encode(Query(history, exclude), vocabulary, spec)
    tensors = pack([row], spec)[:2]
    for tensor, expected in zip(tensors, spec.inputs, strict=True):
        assert tensor.shape == (1, *expected.shape)
        assert ((tensor >= 0) & (tensor <= len(item_ids))).all()
    known = [item_id for item_id in history if item_id in vocabulary]
    assert vocabulary.decode(row.history) == known[-4:]
    assert row.unknown_ids == tuple(item_id for item_id in (*history, *exclude) if item_id not in vocabulary)
    # The best answer a graph could give: all that the tensors do not rule out, in any order.
    ruled_out = {int(index) for tensor in tensors for index in tensor.ravel()}
    allowed = data.draw(st.permutations([index for index in range(1, len(item_ids) + 1) if index not in ruled_out]))
    best = np.full((1, spec.top_k), PADDING, np.int32)
    best[0, : len(allowed)] = allowed[: spec.top_k]
    k = data.draw(st.integers(1, spec.top_k))
    (answer,) = decode(best, np.zeros(best.shape, np.float32), [row], k, vocabulary=vocabulary, model_version="1", latency_ms=0)
    assert len(answer) <= k
    assert not set(answer.ids) & {*known, *exclude}
    seen = {*vocabulary.encode([*known, *(item_id for item_id in exclude if item_id in vocabulary)])}
    assert answer.ids == tuple(vocabulary.decode([index for index in best[0].tolist() if index and index not in seen][:k]))


@given(st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=3, max_size=3), min_size=1, max_size=5))
def test_tensors_survive_the_wire(rows):
    history = np.array(rows, np.int32)
    request = infer_request("student", history, history[:, :2])
    assert [list(tensor.shape) for tensor in request.inputs] == [[len(rows), 3], [len(rows), 2]]
    assert np.frombuffer(request.raw_input_contents[0], "<i4").reshape(-1, 3).tolist() == rows
    assert request.raw_input_contents[1] == np.ascontiguousarray(history[:, :2]).tobytes()


@pytest.mark.parametrize(
    ("name", "datatype", "shape", "rows"),
    [("items", "FP32", [2, 2], 2), ("items", "INT32", [2, 2], 3), ("items", "INT32", [4], 2), ("things", "INT32", [2, 2], 2)],
)
def test_answers_of_foreign_models_are_refused(name, datatype, shape, rows):
    from tritonclient.grpc import service_pb2

    response = service_pb2.ModelInferResponse(model_name="foreign", model_version="1")
    for tensor, kind in ((name, datatype), ("scores", "FP32")):
        response.outputs.add(name=tensor, datatype=kind, shape=shape)
        response.raw_output_contents.append(bytes(16))
    with pytest.raises(ClientError, match=r"model 'foreign': found .*not a DistilRec recommender"):
        read_answer(response, rows)


def test_row_of_an_empty_history():
    assert encoded([]) == EncodedQuery([], [], ())


def test_front_door_is_asked_with_strings_on_the_wire():
    request = front_door_request([["50", "é"], []], [[], ["7"]], k=3)
    assert request.raw_input_contents[0] == b"\x02\x00\x00\x0050\x02\x00\x00\x00\xc3\xa9" + bytes(8)
    assert [list(tensor.shape) for tensor in request.inputs] == [[2, 2], [2, 1], [2, 1]]
    assert np.frombuffer(request.raw_input_contents[2], "<i4").tolist() == [3, 3]


def test_front_door_answers_in_strings():
    from tritonclient.grpc import service_pb2

    response = service_pb2.ModelInferResponse(model_name="recommend", model_version="4")
    ids = [b"50", b"", "é".encode(), b"7"]
    raw = b"".join(len(value).to_bytes(4, "little") + value for value in ids)
    for name, datatype, content in (("item_ids", "BYTES", raw), ("scores", "FP32", np.arange(4, dtype="<f4").tobytes())):
        response.outputs.add(name=name, datatype=datatype, shape=[2, 2])
        response.raw_output_contents.append(content)
    found, scores, version = read_front_door(response)
    assert found == [["50", ""], ["é", "7"]]
    assert scores.tolist() == [[0, 1], [2, 3]]
    assert version == "4"
    with pytest.raises(ClientError, match="expected 'item_ids' and 'scores'"):
        read_front_door(service_pb2.ModelInferResponse(model_name="recommend"))
