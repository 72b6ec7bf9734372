"""What a probe says of a failed call, and of an answer."""

import numpy as np
import pytest

from distilrec.core.golden import Golden
from distilrec.serving.health.probe import Fault, classify, judge


@pytest.mark.parametrize(
    ("status", "message", "fault"),
    [
        ("StatusCode.INTERNAL", "Stub process 'student_0_0' is not healthy.", Fault.NOT_HEALTHY),
        ("StatusCode.DEADLINE_EXCEEDED", "Deadline Exceeded", Fault.DEADLINE),
        ("StatusCode.NOT_FOUND", "Request for unknown model: 'student' has no available versions", Fault.UNAVAILABLE),
        ("", '{"error":"Request for unknown model: \'student\' is not found"}', Fault.UNAVAILABLE),
        ("StatusCode.UNAVAILABLE", "failed to connect to all addresses", Fault.UNAVAILABLE),
        ("StatusCode.INVALID_ARGUMENT", "unexpected shape for input 'history'", Fault.REFUSED),
        ("StatusCode.INTERNAL", "onnxruntime: out of memory", Fault.ERROR),
    ],
)
def test_failed_calls_are_told_apart(status, message, fault):
    assert classify(status, message) is fault


def test_judge_lets_ties_pass_and_finds_other_items():
    scores = np.array([[3.0, 1.0, 1.0]], np.float32)
    none = np.zeros((1, 4), np.int32)
    expected = Golden(none, none, np.array([[7, 8, 9]], np.int32), scores)
    assert judge(expected, np.array([[7, 9, 8]], np.int32), scores).fault is None
    assert judge(expected, np.array([[8, 7, 9]], np.int32), scores).fault is Fault.WRONG_ANSWER
    assert judge(expected, expected.items, scores * np.float32(np.nan)).fault is Fault.WRONG_ANSWER
    assert judge(expected, expected.items[:, :2], scores[:, :2]).fault is Fault.WRONG_ANSWER
