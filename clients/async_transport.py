"""Carries out the steps of a conversation over gRPC on asyncio."""

import asyncio
import contextlib
from typing import Any

import grpc
from tritonclient.grpc import service_pb2_grpc

from clients.connection import Connection, open_aio_channel
from clients.draining import CLOSE_S, DrainingTasks
from clients.steps import Call, CallFailed, Exclusive, Pause, Step, drive_async


class AsyncTransport:
    """As ``transport.Transport``, for one event loop: the one of the first call."""

    def __init__(self, connection: Connection) -> None:
        self.epoch = 0
        self._connection = connection
        self._credentials = connection.credentials()
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None
        self._watcher: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._calls = DrainingTasks()
        self._closed = False

    async def carry_out(self, step: Step) -> Any:
        """Do one step and return its outcome, of the type that the step says.

        Raises:
            CallFailed: a call without an answer.
        """
        if isinstance(step, Call):
            if self._closed:
                raise CallFailed("CANCELLED", "the client is closed")
            if self._channel is None:
                self._open()
            try:
                method = getattr(self._stub, step.method)
                return await self._calls.ask(method, step.request, step.timeout_s, self._connection.pairs)
            except grpc.aio.AioRpcError as error:
                raise CallFailed(error.code().name, error.details() or "") from error
            except grpc.aio.UsageError as error:  # gRPC raises it for a closed channel
                raise CallFailed("CANCELLED", f"the client is closed ({error})") from error
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        if isinstance(step, Exclusive):
            try:
                async with asyncio.timeout(step.timeout_s):
                    await self._lock.acquire()
            except TimeoutError as error:
                raise CallFailed("DEADLINE_EXCEEDED", "others were asking what the server serves") from error
            try:
                return await drive_async(step.conversation(), self.carry_out)
            finally:
                self._lock.release()
        return await asyncio.to_thread(step.function)

    async def close(self) -> None:
        """Close the connection.

        Calls without an answer are waited for, at most ``draining.CLOSE_S`` seconds. Those that are left then are cancelled.
        """
        self._closed = True
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        if self._channel is not None:
            await self._channel.close(CLOSE_S)
        self._channel = self._watcher = None

    def _open(self) -> None:
        """Open the channel: at the first call, because the transport may be made outside of the event loop."""
        self._channel = open_aio_channel(self._connection, self._credentials)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._watcher = asyncio.create_task(self._watch(self._channel))

    async def _watch(self, channel: grpc.aio.Channel) -> None:
        """Count lost connections."""
        while True:
            state = channel.get_state()
            await channel.wait_for_state_change(state)
            if state is grpc.ChannelConnectivity.READY:
                self.epoch += 1
