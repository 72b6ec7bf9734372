"""Conversations with a server, written once for blocking and asyncio clients.

A conversation is a generator: it yields what is to be done next (a call, a pause, work for the processor), is sent the
outcome and returns the result. It does no I/O, so the two clients differ in how they carry out a step and in nothing else.
"""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from distilrec.core.errors import DistilRecError

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """One gRPC call."""

    method: str
    """Of Triton's service, for example "ModelInfer"."""
    request: Any
    """The protobuf message."""
    timeout_s: float


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Something that takes the processor for long: reading a large vocabulary."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Exclusive:
    """A conversation that no two of a client's callers hold at the same time."""

    conversation: "Callable[[], Steps[Any]]"
    timeout_s: float
    """Seconds to wait for the others."""


Step = Call | Pause | Work | Exclusive
Steps = Generator[Step, Any, T]


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
    _begin: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._begin

    @property
    def left_s(self) -> float:
        """Seconds that remain, never below 0."""
        return max(0.0, self.timeout_s - self.elapsed_s)


def drive(steps: Steps[T], carry_out: Callable[[Step], Any]) -> T:
    """Hold a conversation, blocking.

    Args:
        steps: the conversation.
        carry_out: does one step and returns its outcome; what it raises (CallFailed, DistilRecError) is raised in the conversation.
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


async def drive_async(steps: Steps[T], carry_out: Callable[[Step], Any]) -> T:
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
