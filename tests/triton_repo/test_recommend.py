"""The front door on a real tritonserver: string ids in and out, every request judged by itself."""

import json
import os
import shutil
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from grpc import RpcError, StatusCode, insecure_channel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient import grpc
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from clients import RecommenderClient
from clients.wire import front_door_request, infer_request, read_front_door
from distilrec.config import spec_of_run
from distilrec.core.errors import ServerError
from distilrec.core.manifest import read_manifest
from distilrec.data import stage as data_stage
from distilrec.data.dataset import requests
from distilrec.serving.process.server import TritonServer, free_ports
from export.repository.fill import artefact_facts, fill_repository
from export.repository.models import render_front_door

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def vocabulary(shop_run):
    return data_stage.load(shop_run / "data")[1]


@pytest.fixture(scope="module")
def client(shop_server, vocabulary):
    with RecommenderClient(shop_server.url, vocabulary=vocabulary) as client:
        yield client


@pytest.fixture(scope="module")
def triton(shop_server):
    client = grpc.InferenceServerClient(shop_server.url)
    yield client
    client.close()


def strings(name, rows):
    values = np.array([[text.encode() if isinstance(text, str) else text for text in row] for row in rows], np.object_)
    tensor = grpc.InferInput(name, values.reshape(len(rows), -1).shape, "BYTES")
    tensor.set_data_from_numpy(values.reshape(len(rows), -1))
    return tensor


def number(k, rows=1):
    tensor = grpc.InferInput("k", [rows, 1], "INT32")
    tensor.set_data_from_numpy(np.full((rows, 1), k, np.int32))
    return tensor


def recommend(triton, *inputs, timeout_s=10):
    result = triton.infer("recommend", list(inputs), client_timeout=timeout_s)
    texts = [[[text.decode() for text in row] for row in result.as_numpy(name)] for name in ("item_ids", "unknown_ids")]
    return texts[0], result.as_numpy("scores"), texts[1]


HISTORIES = [
    [],
    ["item-3"],
    ["item-3", "item-9", "nobody knows this", "item-27"],
    [f"item-{i}" for i in range(20)],  # longer than the model reads: older ones are still not recommended
]


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("exclude", [[], ["item-33", "item-45"]])
def test_answers_are_those_of_the_client(triton, client, history, exclude):
    expected = client.recommend(history, k=7, exclude=exclude)
    ids, scores, unknown = recommend(triton, strings("history", [history]), strings("exclude", [exclude]), number(7))
    assert ids == [list(expected.ids)]
    assert scores[0].tolist() == pytest.approx(list(expected.scores), abs=1e-4)
    assert unknown == [list(expected.unknown_ids)]


def test_long_history_is_cut_as_evaluation_cuts_it(triton, vocabulary, shop_config):
    """More items than both tensors hold: the front door rules out the same ones as held-out users do when models are judged."""
    history = [f"item-{place * 7 % 90}" for place in range(50)]
    spec = spec_of_run(shop_config, len(vocabulary))
    tensors = []
    for tensor, rows in zip(spec.inputs, requests([np.array(vocabulary.encode(history), np.int32)], spec), strict=True):
        tensors.append(grpc.InferInput(tensor.name, rows.shape, "INT32"))
        tensors[-1].set_data_from_numpy(rows)
    expected = vocabulary.decode(triton.infer("student", tensors).as_numpy("items")[0].tolist())
    assert recommend(triton, strings("history", [history]), number(spec.top_k))[0] == [expected]


def test_curl_needs_no_more_than_json(shop_server):
    body = {"inputs": [{"name": "history", "datatype": "BYTES", "shape": [1, 2], "data": ["item-3", "gone"]}]}
    answer = post(shop_server, body)
    tensors = {tensor["name"]: tensor["data"] for tensor in answer["outputs"]}
    assert len(tensors["item_ids"]) == len(tensors["scores"]) == 10
    assert tensors["unknown_ids"] == ["gone"]
    assert "item-3" not in tensors["item_ids"]


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ({"name": "k", "datatype": "INT32", "shape": [1, 1], "data": [21]}, "k: found 21, expected one number of 1 to 20"),
        ({"name": "k", "datatype": "INT32", "shape": [1, 1], "data": [0]}, "k: found 0"),
        ({"name": "k", "datatype": "FP32", "shape": [1, 1], "data": [1.5]}, "data-type"),
        ({"name": "exclude", "datatype": "BYTES", "shape": [1, 17], "data": [f"item-{i}" for i in range(17)]}, "found 17 ids"),
        ({"name": "nonsense", "datatype": "BYTES", "shape": [1, 1], "data": ["x"]}, "nonsense"),
    ],
)
def test_bad_request_gets_its_own_error(shop_server, tensor, message):
    history = {"name": "history", "datatype": "BYTES", "shape": [1, 1], "data": ["item-3"]}
    with pytest.raises(urllib.error.HTTPError) as error:
        post(shop_server, {"inputs": [history, tensor]})
    assert error.value.code == 400
    assert message in json.load(error.value)["error"]


def post(server, body):
    url = f"http://127.0.0.1:{server.ports.http}/v2/models/recommend/infer"
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def test_several_rows_are_one_request(triton, client):
    rows = [["item-3", "item-9"], ["item-4", ""], ["gone", "item-5"]]
    ids, _, unknown = recommend(triton, strings("history", rows), number(4, rows=3))
    assert ids == [list(client.recommend([item for item in row if item], k=4).ids) for row in rows]
    assert unknown == [[""], [""], ["gone"]]


MALFORMED = [
    bytes.fromhex("ffffff7f6162"),  # a length of 2 GB before two bytes
    bytes.fromhex("ffffffff6162"),  # a negative length
    b"\x05\0\0\0",  # a length without its string
    b"\x02\0\0\0a",  # a string that is cut short
    b"\x02\0",  # a length that is cut short
    b"\x01\0\0\0ax",  # a byte too many
    b"\0\0\0\0\0\0\0\0",  # two strings
    b"",  # none
]
"""Contents of a string tensor with one element. Triton checks some before it makes batches, and some not before the batch runs."""


def malformed(place):
    """A request that is the caller's fault, and a part of the answer."""
    kinds = len(MALFORMED) + 2
    if place % kinds < len(MALFORMED):
        request = front_door_request([["item-1"]], [[]], k=5)
        request.raw_input_contents[0] = MALFORMED[place % kinds]
        return request, "string"
    if place % kinds == len(MALFORMED):
        return front_door_request([["item-1"]], [[]], k=999), "k: found 999"
    request = infer_request("student", np.zeros((1, 12), np.int32), np.zeros((1, 16), np.int32))
    request.raw_input_contents[0] = request.raw_input_contents[0][:-3]
    return request, "byte size"


def test_malformed_requests_leave_all_others_alone(shop_server, client):
    """Each request is judged by itself, to the front door and to the student."""
    histories = [[f"item-{item}"] for item in range(30)]
    expected = [client.recommend(history, k=5) for history in histories]

    with insecure_channel(shop_server.url) as channel, ThreadPoolExecutor(32) as pool:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        def call(place):
            number = place % 30
            if place % 8 == 0:
                request, reason = malformed(place // 8)
                with pytest.raises(RpcError) as error:
                    stub.ModelInfer(request, timeout=20)
                return error.value.code() is StatusCode.INVALID_ARGUMENT and reason in error.value.details()
            if place % 8 == 1:
                return client.recommend(histories[number], k=5) == expected[number]
            answer = stub.ModelInfer(front_door_request([histories[number]], [[]], k=5), timeout=20)
            return read_front_door(answer)[0] == [list(expected[number].ids)]

        assert all(pool.map(call, range(640)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    history=st.lists(st.text(max_size=20) | st.sampled_from([f"item-{i}" for i in range(90)]), max_size=40),
    k=st.integers(-(2**31), 2**31 - 1) | st.integers(1, 20),
)
def test_whatever_is_asked_gets_an_answer_or_a_reason(triton, history, k):
    try:
        ids, scores, _ = recommend(triton, strings("history", [history]), number(k))
    except InferenceServerException as error:
        assert not 1 <= k <= 20
        assert "k: found" in error.message()  # noqa: PT017 - an answer is as good where k allows it
        return
    real = [item for item in ids[0] if item]
    assert len(ids[0]) == k
    assert len(set(real)) == len(real)
    assert not set(real) & set(history)
    assert (np.diff(scores[0][: len(real)]) <= 0).all()


def test_ten_thousand_random_requests_leave_the_server_as_it_was(shop_server, triton, client):
    """Raw bytes, odd shapes, indices from everywhere, to both models."""
    expected = client.recommend(["item-3", "item-9"], k=10)

    def hammer(seed):
        random = np.random.default_rng(seed)
        for _ in range(1250):
            odd = random.integers(4)
            if odd < 2:
                history = [random.bytes(int(random.integers(30))) for _ in range(int(random.integers(60)))]
                inputs, model = [strings("history", [history]), number(int(random.integers(-5, 40)))], "recommend"
            else:
                rows, length = int(random.integers(1, 4)), 12 if odd == 2 else int(random.integers(1, 30))
                inputs, model = [], "student"
                for name, size in (("history", length), ("exclude", 16)):
                    tensor = grpc.InferInput(name, [rows, size], "INT32")
                    tensor.set_data_from_numpy(random.integers(-(2**31), 2**31 - 1, (rows, size), dtype=np.int32))
                    inputs.append(tensor)
            try:
                triton.infer(model, inputs, client_timeout=20)
            except InferenceServerException as error:
                assert "INVALID_ARGUMENT" in str(error.status()), error  # noqa: PT017 - answers are as good

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hammer, [100]))  # what a first round takes once is no leak
        before = memory_bytes(shop_server.pid)
        list(pool.map(hammer, range(8)))
    assert memory_bytes(shop_server.pid) <= 1.1 * before
    assert client.recommend(["item-3", "item-9"], k=10) == expected


def memory_bytes(pid):
    """Resident memory of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(memory_bytes(int(child)) for child in children)


def test_requests_to_a_student_on_another_backend_stay_within_the_server(shop_run, shop_config, client, tmp_path):
    """The form that NVIDIA's container serves, here with the Python student upstream."""
    config = shop_config.export.model_copy(update={"repository": tmp_path / "repo"})
    fill_repository(shop_run / "export", config)
    manifest = read_manifest(shop_run / "export")
    elsewhere = config.model_copy(update={"target": "onnxruntime"})
    text = render_front_door(artefact_facts(manifest), elsewhere)
    (tmp_path / "repo" / "recommend" / "config.pbtxt").write_text(text)
    (tmp_path / "repo" / "recommend" / "1" / "model.onnx").unlink()
    with TritonServer(config.repository, free_ports(), tmp_path / "log") as server:
        triton = grpc.InferenceServerClient(server.url)
        for history in HISTORIES:
            assert recommend(triton, strings("history", [history]), number(9))[0] == [list(client.recommend(history, k=9).ids)]
        triton.close()


def test_front_door_with_the_vocabulary_of_another_model_does_not_start(shop_run, shop_config, tmp_path):
    config = shop_config.export.model_copy(update={"repository": tmp_path / "repo"})
    fill_repository(shop_run / "export", config)
    path = tmp_path / "repo" / "recommend" / "1" / "vocabulary.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"sha256": "0" * 64}))
    with pytest.raises(ServerError, match="holds vocabulary 0000"):
        TritonServer(config.repository, free_ports(), tmp_path / "log").stop()
    shutil.rmtree(tmp_path / "repo")
