"""What a client does when the model is exchanged under it, with a scripted server: a real one is too fast to be caught at it."""

import json

import numpy as np
import pytest
from tritonclient.grpc import model_config_pb2, service_pb2

from clients.codec import Query
from clients.errors import InvalidRequest, ServerUnavailable, VocabularyMismatch
from clients.retry import RetryPolicy
from clients.session import Session
from clients.steps import Call, CallFailed, Deadline, Exclusive, Pause, Work, drive
from distilrec.core.specs import RecommenderSpec
from distilrec.data.vocabulary import Vocabulary

LETTERS = Vocabulary(tuple("abcdef"), tuple("ABCDEF"))
PART_BYTES = 50
TURNED = Vocabulary(tuple("fedcba"), tuple("FEDCBA"))


class Server:
    """Answers as Triton does; recommends the first K items that are not in the history."""

    def __init__(self, vocabulary=LETTERS, version=1, history_length=3):
        self.epoch = 0
        self.after_the_next_answer = []
        self.calls = []
        self.batch_sizes = []
        self.serve(vocabulary, version, history_length)

    def serve(self, vocabulary, version, history_length=3, handed_over=None):
        self.vocabulary, self.version, self.handed_over = vocabulary, str(version), handed_over or vocabulary
        self.spec = RecommenderSpec(len(vocabulary), history_length, 2, 3)

    def carry_out(self, step):
        if isinstance(step, Exclusive):
            return drive(step.conversation(), self.carry_out)
        if isinstance(step, Work):
            return step.function()
        if isinstance(step, Pause):
            return None
        assert isinstance(step, Call)
        name = getattr(step.request, "model_name", "")
        self.calls.append("vocabulary" if name == "vocabulary" else step.method)
        return getattr(self, step.method)(step.request)

    def ModelMetadata(self, _):  # noqa: N802 - the service's name
        return service_pb2.ModelMetadataResponse(versions=[self.version])

    def ModelConfig(self, request):  # noqa: N802
        if request.version != self.version:
            raise CallFailed("NOT_FOUND", "unknown version")
        config = model_config_pb2.ModelConfig(name=request.name, max_batch_size=2)
        for tensor in self.spec.inputs:
            config.input.add(name=tensor.name, data_type=model_config_pb2.TYPE_INT32, dims=tensor.shape)
        for tensor, dtype in zip(self.spec.outputs, (model_config_pb2.TYPE_INT32, model_config_pb2.TYPE_FP32), strict=True):
            config.output.add(name=tensor.name, data_type=dtype, dims=tensor.shape)
        config.parameters["item_count"].string_value = str(self.spec.item_count)
        config.parameters["vocabulary_sha256"].string_value = self.vocabulary.sha256
        return service_pb2.ModelConfigResponse(config=config)

    def ModelInfer(self, request):  # noqa: N802
        if request.model_name == "vocabulary":
            return self.part_of_the_vocabulary(request)
        rows, length = request.inputs[0].shape
        self.batch_sizes.append(rows)
        if length != self.spec.history_length:
            raise CallFailed("INVALID_ARGUMENT", "unexpected shape for input 'history'")
        history = np.frombuffer(request.raw_input_contents[0], np.int32).reshape(rows, length)
        best = [[index for index in range(1, 7) if index not in row][:3] for row in history.tolist()]
        response = service_pb2.ModelInferResponse(model_name=request.model_name, model_version=self.version)
        for name, dtype, values in (
            ("items", "INT32", np.array(best, np.int32)),
            ("scores", "FP32", np.zeros((rows, 3), np.float32)),
        ):
            response.outputs.add(name=name, datatype=dtype, shape=values.shape)
            response.raw_output_contents.append(values.tobytes())
        if self.after_the_next_answer:
            self.after_the_next_answer.pop(0)()
        return response

    def vocabulary_file(self):
        content = {"sha256": self.handed_over.sha256, "item_ids": self.handed_over.item_ids, "titles": self.handed_over.titles}
        return json.dumps(content).encode()

    def part_of_the_vocabulary(self, request):
        text = self.vocabulary_file()
        (offset,) = np.frombuffer(request.raw_input_contents[0], np.int64).tolist()
        part = text[offset : offset + PART_BYTES]
        response = service_pb2.ModelInferResponse(model_name="vocabulary", model_version=self.version)
        for name, dtype, raw in (
            ("content", "BYTES", len(part).to_bytes(4, "little") + part),
            ("total_bytes", "INT64", len(text).to_bytes(8, "little")),
        ):
            response.outputs.add(name=name, datatype=dtype, shape=[1])
            response.raw_output_contents.append(raw)
        return response


def client(server, vocabulary=None):
    session = Session("host:1", "student", vocabulary, RetryPolicy(retries=1), lambda: server.epoch)

    def recommend(*histories, k=3):
        steps = session.recommend([Query(history) for history in histories], k, Deadline(5))
        return [answer if isinstance(answer, InvalidRequest) else "".join(answer.ids) for answer in drive(steps, server.carry_out)]

    return recommend


def test_the_vocabulary_comes_in_parts_and_only_once():
    server = Server()
    recommend = client(server)
    assert recommend(["a", "b"]) == ["cde"]
    assert recommend(["a"]) == ["bcd"]
    parts = server.calls.count("vocabulary")
    assert parts == -(-len(server.vocabulary_file()) // PART_BYTES)
    assert server.calls == ["ModelMetadata", "ModelConfig", *["vocabulary"] * parts, "ModelInfer", "ModelInfer"]


def test_more_histories_than_a_batch_holds_go_in_several_requests_and_keep_their_order():
    server = Server()
    first, second, invalid, fourth, fifth = client(server)(["a"], ["b"], [7], ["c"], [])
    assert [first, second, fourth, fifth] == ["bcd", "acd", "abd", "abc"]
    assert isinstance(invalid, InvalidRequest)
    assert server.batch_sizes == [2, 1, 1]  # at most max_batch_size, and without the invalid one


def test_a_new_version_with_the_same_vocabulary_answers_at_once():
    server = Server()
    recommend = client(server)
    recommend(["a"])
    server.serve(LETTERS, 2)
    server.calls.clear()
    assert recommend(["a"]) == ["bcd"]
    assert server.calls == ["ModelInfer", "ModelMetadata", "ModelConfig"]
    server.calls.clear()
    recommend(["a"])
    assert server.calls == ["ModelInfer"]


def test_a_new_vocabulary_is_followed_and_the_request_asked_again():
    server = Server()
    recommend = client(server)
    assert recommend(["a"]) == ["bcd"]
    server.serve(TURNED, 2)
    assert recommend(["a"]) == ["fed"]  # under the old one it would have been "def" read as "bcd"


def test_another_server_under_the_same_version_number_is_noticed():
    server = Server()
    recommend = client(server)
    recommend(["a"])
    server.serve(TURNED, 1)
    server.epoch += 1
    assert recommend(["a"]) == ["fed"]


def test_a_connection_that_is_lost_while_the_answer_comes_is_noticed():
    server = Server()
    recommend = client(server)
    recommend(["a"])

    def exchange():
        server.serve(TURNED, 1)
        server.epoch += 1

    server.after_the_next_answer = [exchange]
    assert recommend(["a"]) == ["fed"]


def test_other_sizes_are_followed():
    server = Server()
    recommend = client(server)
    recommend(["a"])
    server.serve(LETTERS, 2, history_length=2)
    assert recommend(["a", "b"]) == ["cde"]


def test_a_refusal_that_no_new_version_explains_is_reported():
    server = Server()
    recommend = client(server)
    recommend(["a"])
    server.ModelInfer = lambda _: (_ for _ in ()).throw(CallFailed("INVALID_ARGUMENT", "no"))
    with pytest.raises(InvalidRequest, match="host:1, model 'student': no"):
        recommend(["a"])


def test_a_given_vocabulary_is_not_exchanged():
    server = Server()
    recommend = client(server, LETTERS)
    assert recommend(["a"]) == ["bcd"]
    server.serve(TURNED, 2)
    with pytest.raises(VocabularyMismatch, match=r"host:1, model 'student': version 2 means vocabulary .*leave vocabulary= away"):
        recommend(["a"])


def test_the_moment_between_two_loads_of_a_promotion_is_waited_for():
    server = Server()
    server.serve(TURNED, 2, handed_over=LETTERS)
    pauses = []
    carry_out = server.carry_out

    def waiting(step):
        if isinstance(step, Pause):
            pauses.append(step.seconds)
            if len(pauses) == 3:
                server.serve(TURNED, 2)
        return carry_out(step)

    server.carry_out = waiting
    assert client(server)(["a"]) == ["fed"]
    assert len(pauses) == 3


def test_a_vocabulary_that_grows_shorter_while_it_is_read_is_read_again():
    server = Server()
    part, asked = server.part_of_the_vocabulary, []

    def exchanged_after_the_second(request):
        asked.append(request)
        if len(asked) == 3:
            server.serve(TURNED, 2)
            raise CallFailed("INVALID_ARGUMENT", "offset: found 100, expected 0 to 80")
        return part(request)

    server.part_of_the_vocabulary = exchanged_after_the_second
    assert client(server)(["a"]) == ["fed"]


def test_a_model_that_changes_forever_is_an_error():
    server = Server()
    recommend = client(server)
    recommend(["a"])
    infer, turns = server.ModelInfer, iter(range(2, 99))

    def another_each_time(request):
        if request.model_name == "student":
            version = next(turns)
            server.serve((TURNED, LETTERS)[version % 2], version)
        return infer(request)

    server.ModelInfer = another_each_time
    with pytest.raises(VocabularyMismatch, match="changed 5 times"):
        recommend(["a"])


def test_health_says_why_and_does_not_raise():
    server = Server()
    session = Session("host:1", "student", None, RetryPolicy(retries=0), lambda: 0)
    server.ServerLive = lambda _: service_pb2.ServerLiveResponse(live=True)
    server.ServerReady = lambda _: service_pb2.ServerReadyResponse(ready=True)
    health = drive(session.health(1.0), server.carry_out)
    assert (bool(health), health.live, health.ready) == (True, True, True)
    server.ModelInfer = lambda _: (_ for _ in ()).throw(CallFailed("INTERNAL", "Stub process is not healthy."))
    health = drive(session.health(1.0), server.carry_out)
    assert (bool(health), health.live, health.ready) == (False, True, True)
    assert "process has died" in health.reason
    server.ServerLive = lambda _: (_ for _ in ()).throw(CallFailed("UNAVAILABLE", "refused"))
    assert not drive(session.health(1.0), server.carry_out).live


def test_waiting_ends_with_the_reason():
    server = Server()
    server.ModelMetadata = lambda _: (_ for _ in ()).throw(CallFailed("UNAVAILABLE", "refused"))
    session = Session("host:1", "student", None, RetryPolicy(retries=0), lambda: 0)
    with pytest.raises(ServerUnavailable, match=r"refused.*waited 0\.3 s"):
        drive(session.wait_until_ready(0.3), server.carry_out)
