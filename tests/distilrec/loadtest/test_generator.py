"""Real client processes against a real gRPC server in this process, which can do what tritonserver does only by bad luck: stall."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceServicer, add_GRPCInferenceServiceServicer_to_server

from clients.connection import Connection
from distilrec.core.errors import LoadError
from distilrec.core.specs import RecommenderSpec
from distilrec.loadtest.generator import LoadGenerator, interrupts, worker_settings
from distilrec.loadtest.run import LoadMeasurement, split_load
from distilrec.loadtest.settings import LoadSettings
from distilrec.loadtest.worker import NOT_SENT, LoadShare

pytestmark = pytest.mark.server

SPEC = RecommenderSpec(item_count=50, history_length=5, exclude_length=2, top_k=3)
RATE, DURATION_S, STALL_S = 100.0, 1.5, 0.6


class StallingServer(GRPCInferenceServiceServicer):
    """Answers at once, one request after another, but one of them only after ``stall_s`` seconds."""

    def __init__(self):
        self.stall_s, self.asked, self.metadata = 0.0, 0, []
        self.deadlines_s, self.cancelled = [], 0

    def ModelInfer(self, request, context):  # noqa: N802 - gRPC's name
        self.asked += 1
        self.metadata.append(dict(context.invocation_metadata()))
        self.deadlines_s.append(context.time_remaining())
        if self.asked == 30 and self.stall_s:
            time.sleep(self.stall_s)
        self.cancelled += not context.is_active()
        return service_pb2.ModelInferResponse(model_name=request.model_name)


@pytest.fixture(scope="module")
def service():
    return StallingServer()


@pytest.fixture(scope="module")
def url(service):
    server = grpc.server(ThreadPoolExecutor(1))
    add_GRPCInferenceServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


def settings_of(url, **changes):
    given = {"model": "student", "rate_per_s": RATE, "concurrency": None, "duration_s": DURATION_S, "processes": 2,
             "timeout_s": 5.0, "zipf_exponent": 1.0, "seed": 0}  # fmt: skip
    return LoadSettings(**{"connection": Connection(url)} | given | changes)


@pytest.fixture(scope="module")
def generator(url):
    with LoadGenerator(settings_of(url), SPEC) as generator:
        yield generator


def put_load(generator, settings, duration_s=DURATION_S, stop=None):
    rate = settings.rate_per_s
    results = generator.run(
        lambda start: split_load(settings, rate, duration_s, start), duration_s + 10, stop or threading.Event(), lambda _: None
    )
    return LoadMeasurement(rate, duration_s, results, None, interrupted=False)


@pytest.fixture
def stall(service):
    service.asked, service.stall_s = 0, STALL_S
    yield
    service.stall_s = 0.0


@pytest.mark.usefixtures("stall")
def test_open_loop_shows_a_stall_in_all_requests_that_were_due_meanwhile(generator, url):
    measured = put_load(generator, settings_of(url))
    assert not measured.errors
    waited = (measured.latency_s > 0.1).sum()
    # Due within the first .5 s of the stall: RATE * .5 = 50 requests, each of which had to wait at least .1 s.
    assert waited > 30
    assert measured.to_json()["latency"]["p90_ms"] > 100
    assert measured.latency_s.max() >= STALL_S


@pytest.mark.usefixtures("stall")
def test_closed_loop_hides_the_stall(generator, url):
    """Which is why it is an option only, and its results say from when latency counts."""
    measured = put_load(generator, settings_of(url, rate_per_s=None, concurrency=2))
    assert (measured.latency_s > 0.1).sum() <= 2
    assert measured.to_json()["latency"]["p90_ms"] < 100
    assert measured.to_json()["latency_from"] == "sending"


@pytest.mark.usefixtures("stall")
def test_requests_whose_time_is_over_are_neither_cancelled_nor_given_a_short_deadline(service, url):
    """tritonserver 2.51 dies of both."""
    service.deadlines_s.clear()
    service.cancelled = 0
    impatient = settings_of(url, timeout_s=0.1)
    with LoadGenerator(impatient, SPEC) as generator:
        measured = put_load(generator, impatient)
    assert measured.errors.keys() == {"DEADLINE_EXCEEDED"}
    assert len(service.deadlines_s) > RATE
    assert min(service.deadlines_s) > 10
    assert service.cancelled == 0


def test_client_that_is_late_counts_it_and_says_so(generator, url):
    """The load begins 1 s before the processes get to know of it: all that time is in the latencies, though the server is quick."""
    settings = settings_of(url)
    results = generator.run(
        lambda start: split_load(settings, RATE, DURATION_S, start - 1.0), DURATION_S, threading.Event(), lambda _: None
    )
    measured = LoadMeasurement(RATE, DURATION_S, results, None, interrupted=False)
    assert measured.latency_s.max() > 0.7
    assert measured.bottleneck.found
    assert "after the intended time" in measured.bottleneck.reason


def test_what_could_not_be_sent_in_time_is_counted(generator):
    def due_long_ago(start):
        return [LoadShare(start - 60.0, 1.0, np.linspace(0, 0.9, 10), 0)] * 2

    results = generator.run(due_long_ago, 1.0, threading.Event(), lambda _: None)
    assert [result.errors for result in results] == [{NOT_SENT: 10}] * 2
    assert [result.due for result in results] == [10, 10]


def test_stop_ends_early_with_what_was_measured(generator, url):
    stop, started = threading.Event(), time.monotonic()
    threading.Timer(1.0, stop.set).start()
    measured = put_load(generator, settings_of(url), duration_s=20.0, stop=stop)
    assert time.monotonic() - started < 10
    assert not measured.errors, "what was not due yet is no error"
    assert 30 < len(measured.latency_s) < 400
    assert sum(result.due for result in measured.results) == len(measured.latency_s)


def test_ctrl_c_sets_the_event_and_a_second_one_raises():
    former = signal.getsignal(signal.SIGINT)  # ignored where the tests run in the background of a script
    with interrupts() as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is former


def test_every_request_carries_the_metadata_and_none_shows_them(service, url):
    connection = Connection(url, metadata={"authorization": "Bearer secret", "x-team": "shop"})
    settings = settings_of(url, connection=connection, processes=1)
    assert "secret" not in f"{settings} {settings.to_json()}"
    assert "secret" not in repr(worker_settings(settings, SPEC, 0))
    service.metadata.clear()
    with LoadGenerator(settings, SPEC) as generator:
        measured = put_load(generator, settings, duration_s=0.5)
    assert len(service.metadata) >= len(measured.latency_s) > 20
    assert all(sent.items() >= connection.metadata.items() for sent in service.metadata)


def test_killed_client_process_is_reported(url):
    settings = settings_of(url, processes=1)
    with LoadGenerator(settings, SPEC) as generator:
        threading.Timer(0.8, generator._processes[0].kill).start()
        with pytest.raises(LoadError, match="load-0 ended with status -9"):
            put_load(generator, settings, duration_s=20.0)
