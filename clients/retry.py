"""Which failures are worth another attempt, and when."""

import random
from dataclasses import dataclass
from typing import Any

from clients.errors import (
    ClientError,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    ServerUnavailable,
)
from clients.steps import Call, CallFailed, Deadline, Pause, Steps

_QUEUE_FULL = ("queue size", "timeout expired")
_CREDENTIALS = "the server wants other credentials: {details}. Give them with tls= or metadata="
_MEANINGS: dict[str, tuple[type[ClientError], str]] = {
    "DEADLINE_EXCEEDED": (DeadlineExceeded, "no answer within {timeout_s:g} s"),
    "INVALID_ARGUMENT": (InvalidRequest, "{details}"),
    "NOT_FOUND": (ModelNotFound, "the server does not serve this model: {details}"),
    "PERMISSION_DENIED": (ClientError, _CREDENTIALS),
    "RESOURCE_EXHAUSTED": (Overloaded, "the server takes no more requests now: {details}"),
    "UNAUTHENTICATED": (ClientError, _CREDENTIALS),
    "UNAVAILABLE": (ServerUnavailable, "no server answers: {details}. Start one with: distilrec serve"),
}


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with jitter, so that many clients do not come back at the same moment.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 (equal jitter).
    """

    retries: int = 5
    """Attempts after the first."""
    first_s: float = 0.1
    """Largest pause before the second attempt, in seconds; it doubles with each further one."""
    cap_s: float = 1.0
    """Largest pause of all, in seconds."""

    def pause_s(self, attempt: int) -> float:
        """Seconds to wait after the ``attempt``-th failure, 1-based: half of it fixed, half of it random."""
        longest = min(self.cap_s, self.first_s * 2.0 ** (attempt - 1))
        return longest * (0.5 + 0.5 * random.random())  # noqa: S311 - spreads clients, guards nothing


def client_error(failure: CallFailed, timeout_s: float) -> ClientError:
    """What a failed call means to an application.

    Args:
        failure: of the call.
        timeout_s: what the call was given, in seconds.
    """
    code, details = failure.code, failure.details.strip()
    if "not healthy" in details:
        return ServerUnavailable(f"the model's process has died, its server may bring it back: {details}")
    if code == "UNAVAILABLE" and any(sign in details for sign in _QUEUE_FULL):
        code = "RESOURCE_EXHAUSTED"
    if "unknown model" in details:
        code = "NOT_FOUND"
    kind, reason = _MEANINGS.get(code, (ClientError, "{code}: {details}"))
    return kind(reason.format(code=code, details=details, timeout_s=timeout_s))


def call(method: str, request: Any, deadline: Deadline, policy: RetryPolicy, *, served_before: bool = False) -> Steps[Any]:
    """Call, and again while that can help and the deadline allows; all calls of this client change nothing on the server.

    Args:
        method: of Triton's service.
        request: its message.
        deadline: of the whole conversation.
        policy: how often, and with which pauses.
        served_before: the model was there a moment ago; its absence is then one of a restart or a promotion, and passes.

    Raises:
        ClientError: what the last attempt said, and how many there were.
    """
    passing = (ServerUnavailable, Overloaded, ModelNotFound) if served_before else (ServerUnavailable, Overloaded)
    attempt = 0
    while True:
        attempt += 1
        try:
            return (yield Call(method, request, deadline.left_s))
        except CallFailed as failure:
            error = client_error(failure, deadline.timeout_s)
            pause_s = policy.pause_s(attempt)
            if not isinstance(error, passing) or attempt > policy.retries or pause_s >= deadline.left_s:
                if attempt > 1:
                    error.tried = f"{attempt} attempts in {deadline.elapsed_s:.1f} s"
                raise error from failure
        yield Pause(pause_s)
