"""When a call is repeated, without real pauses."""

import pytest

from clients import retry
from clients.errors import (
    ClientError,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    ServerUnavailable,
)
from clients.methods import MODEL_INFER
from clients.retry import RetryPolicy
from clients.steps import Call, CallFailed, Deadline, Pause, drive


def attempt(outcomes, *, timeout_s=10.0, served_before=False, retries=3):
    """Hold a conversation in which the calls end with ``outcomes``; returns its result and the pauses, in seconds."""
    outcomes, pauses = iter(outcomes), []

    def carry_out(step):
        if isinstance(step, Pause):
            pauses.append(step.seconds)
            return None
        assert isinstance(step, Call)
        outcome = next(outcomes)
        if isinstance(outcome, CallFailed):
            raise outcome
        return outcome

    steps = retry.call(MODEL_INFER, None, Deadline(timeout_s), RetryPolicy(retries), served_before=served_before)
    return drive(steps, carry_out), pauses


DOWN = CallFailed("UNAVAILABLE", "connection refused")


def test_passing_failures_are_waited_for_ever_longer():
    answer, pauses = attempt([DOWN, DOWN, DOWN, "answer"])
    assert answer == "answer"
    for pause, longest in zip(pauses, (0.1, 0.2, 0.4), strict=True):
        assert longest / 2 <= pause <= longest


def test_pauses_have_a_cap_and_differ():
    policy = RetryPolicy(first_s=0.1, cap_s=1.0)
    pauses = {policy.pause_s(attempt=20) for _ in range(50)}
    assert 0.5 <= min(pauses) < max(pauses) <= 1.0


def test_default_retries_outlast_the_restart_of_a_server_that_died(monkeypatch):
    monkeypatch.setattr("random.random", lambda: 0.0)
    policy = RetryPolicy()
    assert sum(policy.pause_s(attempt) for attempt in range(1, policy.retries + 1)) > 3.5


def test_retries_are_counted_and_reported():
    with pytest.raises(ServerUnavailable, match=r"no server answers: connection refused.*\(4 attempts in "):
        attempt([DOWN] * 4)
    with pytest.raises(ServerUnavailable) as caught:
        attempt([DOWN], retries=0)
    assert "attempts" not in str(caught.value)


def test_no_pause_reaches_beyond_the_deadline():
    with pytest.raises(ServerUnavailable):
        attempt([DOWN, "too late"], timeout_s=0.04)


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (CallFailed("DEADLINE_EXCEEDED", "Deadline Exceeded"), DeadlineExceeded),
        (CallFailed("INVALID_ARGUMENT", "unexpected shape"), InvalidRequest),
        (CallFailed("NOT_FOUND", "Request for unknown model: 'x' is not found"), ModelNotFound),
        (CallFailed("UNAUTHENTICATED", "no token"), ClientError),
        (CallFailed("INTERNAL", "model raised"), ClientError),
    ],
)
def test_failures_that_stay_are_not_repeated(failure, error):
    with pytest.raises(error):
        attempt([failure, "never asked"])


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (CallFailed("UNAVAILABLE", "Exceeds maximum queue size"), Overloaded),
        (CallFailed("RESOURCE_EXHAUSTED", ""), Overloaded),
        (CallFailed("INTERNAL", "Stub process 'student_0' is not healthy."), ServerUnavailable),
    ],
)
def test_overload_and_a_dead_process_are_repeated(failure, error):
    assert attempt([failure, "answer"])[0] == "answer"
    with pytest.raises(error):
        attempt([failure] * 4)


def test_a_model_that_was_served_a_moment_ago_may_come_back():
    gone = CallFailed("NOT_FOUND", "Request for unknown model: 'student' is not found")
    assert attempt([gone, "answer"], served_before=True)[0] == "answer"
    with pytest.raises(ModelNotFound):
        attempt([gone] * 4, served_before=True)


# gRPC's own words for a host with two addresses.
REFUSED = CallFailed(
    "UNAVAILABLE", "failed to connect to all addresses; last error: UNKNOWN: ipv6:%5B::1%5D:8001: Connection refused"
)
NO_TLS = CallFailed(
    "UNAVAILABLE", "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:8001: Tls handshake failed"
)


@pytest.mark.parametrize("outcomes", [[REFUSED, NO_TLS], [NO_TLS, REFUSED], [NO_TLS, REFUSED, REFUSED], [REFUSED, NO_TLS, REFUSED]])
def test_each_address_of_a_host_is_heard(outcomes):
    with pytest.raises(ServerUnavailable) as caught:
        attempt(outcomes, retries=len(outcomes) - 1)
    for words in ("::1%5D:8001: Connection refused", "127.0.0.1:8001: Tls handshake failed", "another address of this host"):
        assert str(caught.value).count(words) == 1


def test_one_attempt_names_the_other_loopback_address():
    with pytest.raises(ServerUnavailable, match=r"Connection refused; this host may have other addresses.*try 127\.0\.0\.1"):
        attempt([REFUSED], retries=0)
    with pytest.raises(ServerUnavailable) as caught:
        attempt([NO_TLS, NO_TLS], retries=1)
    assert "address of this host" not in str(caught.value)
