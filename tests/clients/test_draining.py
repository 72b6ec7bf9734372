"""Callers that stop waiting: nothing of it reaches the server, be it a late one of this test or a real tritonserver."""

import asyncio
import threading
import time
from collections import Counter
from concurrent import futures

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from clients import AsyncRecommenderClient, ClientError, RecommenderClient, draining
from clients.async_transport import AsyncTransport
from clients.connection import Connection
from clients.steps import Call, CallFailed
from clients.transport import Transport

ASK_S = 0.05  # deadline of a caller
SOON_S = 0.5  # no step of the client may take longer


class LateServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers ServerLive when it is told to, and keeps what each call looked like from here."""

    def __init__(self):
        self.release = threading.Event()
        self.deadlines_s, self.heard_to_the_end = [], []
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.url = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def ServerLive(self, _request, context):  # noqa: N802 - the service's name
        self.deadlines_s.append(context.time_remaining())
        self.release.wait(10)
        self.heard_to_the_end.append(context.is_active())
        return service_pb2.ServerLiveResponse(live=True)

    def wait_for(self, calls):
        """Answer everything, and wait until ``calls`` calls have ended here."""
        self.release.set()
        end = time.monotonic() + 5
        while len(self.heard_to_the_end) < calls and time.monotonic() < end:
            time.sleep(0.01)

    def stop(self):
        self.release.set()
        self._server.stop(None).wait()


class Awaited:
    """The asyncio transport, called as the blocking one."""

    def __init__(self, connection):
        self.loop = asyncio.new_event_loop()
        self.transport = AsyncTransport(connection)

    def carry_out(self, step):
        return self.loop.run_until_complete(self.transport.carry_out(step))

    def close(self):
        if not self.loop.is_closed():
            self.loop.run_until_complete(self.transport.close())
            self.loop.close()


@pytest.fixture
def late():
    server = LateServer()
    yield server
    server.stop()


@pytest.fixture(params=[Transport, Awaited])
def transport(request, late):
    transport = request.param(Connection(late.url))
    yield transport
    transport.close()


def live(timeout_s=ASK_S):
    return Call("ServerLive", service_pb2.ServerLiveRequest(), timeout_s)


def fails(transport, step):
    """The status with which a step fails; it may not take long."""
    begin = time.monotonic()
    with pytest.raises(CallFailed) as caught:
        transport.carry_out(step)
    assert time.monotonic() - begin < SOON_S
    return caught.value.code


def answers(transport):
    try:
        return transport.carry_out(live(5.0)).live
    except CallFailed:
        return False


def wait_until(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_caller_gives_up_in_time_and_its_call_goes_on(transport, late):
    late.release.set()
    transport.carry_out(live(5.0))  # connects
    late.release.clear()
    assert fails(transport, live()) == "DEADLINE_EXCEEDED"
    late.wait_for(2)
    assert late.heard_to_the_end == [True, True]
    assert min(late.deadlines_s) > draining.DRAIN_S - 5


def test_a_call_without_time_is_not_sent(transport, late):
    assert fails(transport, live(0.0)) == "DEADLINE_EXCEEDED"
    assert late.deadlines_s == []


def test_calls_that_drain_are_bounded(transport, late, monkeypatch):
    monkeypatch.setattr(draining, "MAX_DRAINING", 3)
    assert [fails(transport, live()) for _ in range(4)] == ["DEADLINE_EXCEEDED"] * 3 + ["RESOURCE_EXHAUSTED"]
    late.wait_for(3)
    assert late.heard_to_the_end == [True] * 3
    wait_until(lambda: answers(transport))  # the client hears of the three answers a little later


def test_closing_waits_for_calls_that_drain(transport, late):
    assert fails(transport, live()) == "DEADLINE_EXCEEDED"
    threading.Timer(0.2, late.release.set).start()
    begin = time.monotonic()
    transport.close()
    assert 0.1 < time.monotonic() - begin < draining.CLOSE_S
    wait_until(lambda: late.heard_to_the_end)
    assert late.heard_to_the_end == [True]


@pytest.mark.server
def test_closing_waits_briefly_for_a_server_that_does_not_answer(transport):
    assert fails(transport, live()) == "DEADLINE_EXCEEDED"
    begin = time.monotonic()
    transport.close()
    assert draining.CLOSE_S - 0.1 < time.monotonic() - begin < draining.CLOSE_S + 1


def test_a_cancelled_task_cancels_nothing_on_the_wire(late):
    async def ask():
        transport = AsyncTransport(Connection(late.url))
        task = asyncio.create_task(transport.carry_out(live(5.0)))
        await asyncio.to_thread(wait_until, lambda: late.deadlines_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(late.wait_for, 1)
        await transport.close()

    asyncio.run(ask())
    assert late.heard_to_the_end == [True]


def test_threads_of_calls_end_when_they_are_idle_or_the_client_is_closed(late, monkeypatch):
    late.release.set()
    monkeypatch.setattr(draining, "_IDLE_S", 0.2)
    of_other_clients = set(threading.enumerate())

    def threads():
        return [t for t in threading.enumerate() if t.name == draining.THREAD_NAME and t not in of_other_clients]

    transport = Transport(Connection(late.url))
    for _ in range(10):
        transport.carry_out(live(5.0))
    assert len(threads()) == 1
    late.release.clear()
    with futures.ThreadPoolExecutor(6) as pool:
        for _ in range(6):
            pool.submit(answers, transport)
        wait_until(lambda: len(late.deadlines_s) == 16)
        assert len(threads()) == 1  # calls next to others need none
        late.release.set()
    wait_until(lambda: not threads())
    transport.carry_out(live(5.0))
    transport.close()
    assert threads() == []


class Impatient:
    """32 threads with a deadline of 10 ms and 32 tasks that are cancelled after 4 ms, without a pause; counts what they saw."""

    def __init__(self, url):
        self.url, self.seen = url, Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._in_threads), threading.Thread(target=lambda: asyncio.run(self._in_tasks()))]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _in_threads(self):
        def ask():
            while not self._stop.is_set():
                try:
                    client.recommend(["item-1"], timeout_s=0.01)
                except ClientError as error:
                    self.seen[type(error).__name__] += 1
                    self._stop.wait(0.005)

        with RecommenderClient(self.url) as client, futures.ThreadPoolExecutor(32) as pool:
            client.recommend(["item-1"])
            for _ in range(32):
                pool.submit(ask)

    async def _in_tasks(self):
        async def ask():
            while not self._stop.is_set():
                try:
                    async with asyncio.timeout(0.004):
                        await client.recommend(["item-1"])
                except TimeoutError:
                    self.seen["cancelled"] += 1
                except ClientError as error:
                    self.seen[type(error).__name__] += 1
                    await asyncio.sleep(0.005)

        async with AsyncRecommenderClient(self.url) as client:
            await client.recommend(["item-1"])
            await asyncio.gather(*(ask() for _ in range(32)))


def test_a_real_server_survives_impatient_callers(promotable):
    """Before calls drained, tritonserver 2.51 died within a few seconds of this."""
    failures, answered = [], 0
    with RecommenderClient(promotable.url) as patient:
        patient.recommend(["item-1"])
        with Impatient(promotable.url) as impatient:
            end = time.monotonic() + 10
            while time.monotonic() < end:
                try:
                    answered += len(patient.recommend(["item-2"], k=5)) == 5
                except ClientError as error:
                    failures.append(error)
                time.sleep(0.005)
        assert impatient.seen["cancelled"] > 100
        assert impatient.seen["DeadlineExceeded"] > 100
        assert "ServerUnavailable" not in impatient.seen
        assert failures == []
        assert answered > 50
        assert len(patient.recommend(["item-1"])) == 10
