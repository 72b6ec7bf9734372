"""What a probe says of a failed call, and of an answer."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from distilrec.core.golden import Golden
from distilrec.serving.health.probe import PATIENCE, FailureCount, Fault, ProbeCallError, classify, judge, over_http


@pytest.mark.parametrize(
    ("code", "message", "fault"),
    [
        ("INTERNAL", "Stub process 'student_0_0' is not healthy.", Fault.NOT_HEALTHY),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", Fault.DEADLINE),
        ("NOT_FOUND", "Request for unknown model: 'student' has no available versions", Fault.UNAVAILABLE),
        ("UNAVAILABLE", "failed to connect to all addresses", Fault.UNAVAILABLE),
        ("INVALID_ARGUMENT", "unexpected shape for input 'history'", Fault.REFUSED),
        ("INTERNAL", "onnxruntime: out of memory", Fault.ERROR),
        ("INTERNAL", "lookup of an unknown model failed", Fault.ERROR),
    ],
)
def test_failed_calls_are_distinguished(code, message, fault):
    assert classify(code, message) is fault


@pytest.mark.parametrize(
    ("status", "fault"), [(400, Fault.REFUSED), (404, Fault.UNAVAILABLE), (500, Fault.ERROR), (503, Fault.UNAVAILABLE)]
)
def test_http_statuses_mean_what_grpcs_do(status, fault):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(status)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        none = np.zeros((1, 4), np.int32)
        with pytest.raises(ProbeCallError) as caught:
            over_http(f"http://127.0.0.1:{server.server_port}", 5, {})(none, none)
    assert caught.value.fault is fault


def test_judge_lets_ties_pass_and_finds_other_items():
    scores = np.array([[3.0, 1.0, 1.0]], np.float32)
    none = np.zeros((1, 4), np.int32)
    expected = Golden(none, none, np.array([[7, 8, 9]], np.int32), scores)
    assert judge(expected, np.array([[7, 9, 8]], np.int32), scores).fault is None
    assert judge(expected, np.array([[8, 7, 9]], np.int32), scores).fault is Fault.WRONG_ANSWER
    assert judge(expected, expected.items, scores * np.float32(np.nan)).fault is Fault.WRONG_ANSWER
    assert judge(expected, expected.items[:, :2], scores[:, :2]).fault is Fault.WRONG_ANSWER


@pytest.mark.parametrize("fault", PATIENCE)
def test_model_counts_as_dead_after_enough_failures_without_a_good_probe(fault):
    failures = FailureCount()
    for _ in range(2):
        assert [failures.add(fault) for _ in range(PATIENCE[fault] - 1)] == [False] * (PATIENCE[fault] - 1)
        failures.clear()
    assert [failures.add(fault) for _ in range(PATIENCE[fault])] == [False] * (PATIENCE[fault] - 1) + [True]


@pytest.mark.parametrize("fault", [Fault.WRONG_ANSWER, Fault.REFUSED])
def test_answering_model_never_counts_as_dead(fault):
    failures = FailureCount()
    assert not any(failures.add(fault) for _ in range(20))


def test_one_late_answer_among_other_failures_is_no_hang():
    failures = FailureCount()
    assert not failures.add(Fault.ERROR)
    assert not failures.add(Fault.ERROR)
    assert not failures.add(Fault.DEADLINE)
    assert failures.add(Fault.ERROR)
