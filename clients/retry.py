"""Which failures are worth another attempt, and when.

gRPC's own ``retryPolicy`` cannot express this: it decides by status code alone, while Triton gives a dead process the code of other
failures, and it makes at most 5 attempts, too few to bridge a restart.

Source: gRPC proposal A6, "gRPC Retry Design", https://github.com/grpc/proposal/blob/master/A6-client-retries.md.
"""

import random
import re
from dataclasses import dataclass

from clients.errors import (
    ClientError,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    ServerUnavailable,
)
from clients.methods import Method, Request, ResponseT
from clients.steps import Call, CallFailed, Deadline, Pause, Steps

# Triton's messages: it has no status codes of its own for these.
_PROCESS_DIED = "not healthy"
_UNKNOWN_MODEL = "unknown model"
_QUEUE_FULL = ("queue size", "timeout expired")
# gRPC names one address of a host only, which may be another one at each attempt.
_LAST_ADDRESS = re.compile(r"last error: (?P<said>.*?(?P<address>ipv[46]:\S+): .*)", re.DOTALL)
_LOOPBACK_V6 = "ipv6:%5B::1%5D:"
_OTHER_ADDRESS = "; another address of this host: "
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

    retries: int = 10
    """Attempts after the first. They take 3.8 s at least, longer than a server that died is away; five took 1.9 s on average."""
    first_s: float = 0.1
    """Longest pause before the second attempt, in seconds; it doubles with each further attempt."""
    cap_s: float = 1.0
    """Longest pause before any attempt, in seconds."""

    def pause_s(self, attempt: int) -> float:
        """Return the seconds to wait after the ``attempt``-th failure, counted from 1: half is fixed, half is random."""
        longest = min(self.cap_s, self.first_s * 2.0 ** (attempt - 1))
        return longest * (0.5 + 0.5 * random.random())  # noqa: S311 - spreads clients, guards nothing


def client_error(failure: CallFailed, timeout_s: float) -> ClientError:
    """Return the error that a failed call means to an application.

    Args:
        failure: Failure of the call.
        timeout_s: Seconds that the call was given.
    """
    code, details = failure.code, failure.details.strip()
    if _PROCESS_DIED in details:
        return ServerUnavailable(f"the model's process has died, its server may bring it back: {details}")
    if code == "UNAVAILABLE" and any(sign in details for sign in _QUEUE_FULL):
        code = "RESOURCE_EXHAUSTED"
    if _UNKNOWN_MODEL in details:
        code = "NOT_FOUND"
    if _LOOPBACK_V6 in details and _OTHER_ADDRESS not in details:
        details += "; this host may have other addresses, of which gRPC names only one: try 127.0.0.1"
    kind, reason = _MEANINGS.get(code, (ClientError, "{code}: {details}"))
    return kind(reason.format(code=code, details=details, timeout_s=timeout_s))


def call(
    method: Method[ResponseT], request: Request, deadline: Deadline, policy: RetryPolicy, *, served_before: bool = False
) -> Steps[ResponseT]:
    """Call, and call again while that can help and the deadline allows. All calls of this client change nothing on the server.

    Args:
        method: Method of Triton's service.
        request: Message to send.
        deadline: Deadline of the whole conversation.
        policy: Number of attempts and pauses between them.
        served_before: Whether the model was served a moment ago. Its absence then comes from a restart or a promotion, and passes.

    Raises:
        ClientError: the failure of the last attempt, with the number of attempts.
    """
    passing = (ServerUnavailable, Overloaded, ModelNotFound) if served_before else (ServerUnavailable, Overloaded)
    attempt, said = 0, dict[str, str]()
    while True:
        attempt += 1
        try:
            response: ResponseT = yield Call(method.name, request, deadline.left_s)
        except CallFailed as failure:
            error = client_error(_with_other_addresses(failure, said), deadline.timeout_s)
            pause_s = policy.pause_s(attempt)
            if not isinstance(error, passing) or attempt > policy.retries or pause_s >= deadline.left_s:
                if attempt > 1:
                    error.tried = f"{attempt} attempts in {deadline.elapsed_s:.1f} s"
                raise error from failure
        else:
            return response
        yield Pause(pause_s)


def _with_other_addresses(failure: CallFailed, said: dict[str, str]) -> CallFailed:
    """Return a failure to connect, with what other addresses of the same host have said: the one that matters may be among them.

    ``localhost`` is often ::1 and 127.0.0.1. Where a server listens only on the second, "connection refused" of the first would
    hide that TLS failed on the second.

    Args:
        failure: Failure of the last attempt.
        said: What each address said last; the failure is added.
    """
    found = _LAST_ADDRESS.search(failure.details)
    if found is None:
        return failure
    said[found["address"]] = found["said"]
    others = [text for address, text in said.items() if address != found["address"]]
    return CallFailed(failure.code, _OTHER_ADDRESS.join([failure.details, *others]))
