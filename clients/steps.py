"""Conversations with a server, written once for blocking and asyncio clients.

A conversation is a generator: it yields the next step (a call, a pause, work for the processor), is sent the outcome of that step
and returns the result. It does no I/O. The two clients differ only in how they carry out a step.
"""

import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from clients.methods import Request
from distilrec.core.errors import DistilRecError

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """One gRPC call; its outcome is the response."""

    method: str
    """Name in Triton's service, for example "ModelInfer"."""
    request: Request
    timeout_s: float


@dataclass(frozen=True)
class Pause:
    """A wait; its outcome is None."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """A function that keeps the processor busy for long, such as parsing a large vocabulary; its outcome is the function's."""

    function: Callable[[], object]


@dataclass(frozen=True)
class Exclusive:
    """A conversation that only one of a client's callers holds at a time; its outcome is the conversation's result."""

    conversation: "Callable[[], Steps[object]]"
    timeout_s: float
    """Seconds to wait for other callers."""


Step = Call | Pause | Work | Exclusive

# The type of an outcome depends on the step, which a generator's type cannot say: whoever yields a step names the outcome's type.
Steps = Generator[Step, Any, T]
"""A conversation whose result is a ``T``."""


class CallFailed(Exception):
    """A call without an answer.

    Args:
        code: gRPC's status, for example "UNAVAILABLE".
        details: the server's message.
    """

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code}: {details}")
        self.code, self.details = code, details


@dataclass
class Deadline:
    """When a conversation must be over."""

    timeout_s: float
    """Seconds from the start of the conversation."""
    _begin: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the conversation began."""
        return time.monotonic() - self._begin

    @property
    def left_s(self) -> float:
        """Seconds that remain, never below 0."""
        return max(0.0, self.timeout_s - self.elapsed_s)


def drive(steps: Steps[T], carry_out: Callable[[Step], object]) -> T:
    """Hold a conversation, blocking.

    Args:
        steps: the conversation.
        carry_out: function that does one step and returns its outcome. A CallFailed or DistilRecError that it raises is raised in
            the conversation.
    """
    try:
        step = next(steps)
        while True:
            try:
                outcome = carry_out(step)
            except (CallFailed, DistilRecError) as failure:
                step = steps.throw(failure)
            else:
                step = steps.send(outcome)
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        steps.close()


async def drive_async(steps: Steps[T], carry_out: Callable[[Step], Awaitable[object]]) -> T:
    """Hold a conversation on asyncio; as ``drive``, with a coroutine function for ``carry_out``."""
    try:
        step = next(steps)
        while True:
            try:
                outcome = await carry_out(step)
            except (CallFailed, DistilRecError) as failure:
                step = steps.throw(failure)
            else:
                step = steps.send(outcome)
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        steps.close()
