"""Times of a real tritonserver on this machine over gRPC: with one request in flight, and with several.

The model ``identity`` has the student's tensors and does no work, so its time is the cost of serving alone. The server's own
statistics separate its time from the time of client and network.
"""

import itertools
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pytest

from benchmarks.subject import Subject
from benchmarks.timing import quantiles_ms
from benchmarks.wire_load import SenderPool, connect, send_all, server_side, statistics
from clients.wire import front_door_request, infer_request, read_answer
from distill.models.teachers.load import load_ensemble
from distilrec.config import ExportConfig
from distilrec.core.errors import MissingExtraError, ServerError
from distilrec.core.specs import FRONT_DOOR_NAME, MODEL_NAME
from distilrec.data.vocabulary import FILE_NAME as VOCABULARY
from distilrec.data.vocabulary import load_vocabulary
from distilrec.pipeline.finished import mixture_weights
from distilrec.pipeline.folders import teacher_folders
from distilrec.serving.process.server import TritonServer, free_ports
from distilrec.serving.process.wheel import find_tritonserver
from export.repository.benchmark_models import fill_benchmark_models
from export.repository.fill import IDENTITY_NAME, TEACHER_NAME, fill_repository

_MODELS = (IDENTITY_NAME, MODEL_NAME, FRONT_DOOR_NAME, TEACHER_NAME)
_SINGLE_REQUESTS, _CONCURRENT_REQUESTS = 500, 1000
"""Timed requests with one in flight, and with several in flight: enough for p99."""
_WARMUP_REQUESTS = 20
_ROUNDS = 3
_PROCESSES = 4
"""Sending processes: one alone would be the bottleneck, and more would take the server's processors."""
_USERS = 64
"""Number of different requests."""
_TIMEOUT_S = 30


class RunningServer(NamedTuple):
    """A running server."""

    url: str
    has_teacher: bool


@pytest.fixture(scope="module")
def served(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    try:
        find_tritonserver()
    except (MissingExtraError, ServerError) as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("serving")
    base = subject.config.export if subject.config else ExportConfig()
    config = base.model_copy(update={"repository": folder / "repo", "target": "python"})
    fill_repository(subject.artefact, config)
    _fill_benchmark_models(subject, config)
    with TritonServer(config.repository, free_ports(), folder / "log") as server:
        yield RunningServer(server.url, _has_teacher(subject))


def _has_teacher(subject: Subject) -> bool:
    """Whether there is a run, with teachers that are more than lists."""
    run = subject.config
    return run is not None and all(run.teachers[name].scores_any_history for name in run.student_teachers)


def _fill_benchmark_models(subject: Subject, config: ExportConfig) -> None:
    run = subject.config
    teacher = None
    if run is not None and _has_teacher(subject):
        teacher = load_ensemble(run, mixture_weights(run), teacher_folders(run), subject.spec.item_count)
    fill_benchmark_models(teacher, subject.artefact, config)


@pytest.fixture(scope="module")
def messages(subject: Subject) -> dict[str, list[Any]]:
    """Requests by model, one of each user."""
    requests = subject.requests
    rows = np.flatnonzero((requests.history > 0).any(axis=1))[:_USERS]
    vocabulary = load_vocabulary(subject.artefact / VOCABULARY)
    histories = [vocabulary.decode(requests.history[row][requests.history[row] > 0].tolist()) for row in rows]
    nothing = {tensor.name: np.zeros((1, *tensor.shape), np.int32) for tensor in subject.spec.choices}
    by_index = {
        model: [infer_request(model, requests.history[row, None], requests.exclude[row, None], chosen) for row in rows]
        for model, chosen in ((IDENTITY_NAME, nothing), (MODEL_NAME, nothing), (TEACHER_NAME, {}))
    }
    return by_index | {FRONT_DOOR_NAME: [front_door_request([history], [[]], k=10) for history in histories]}


@pytest.fixture(scope="module")
def pool() -> Iterator[SenderPool]:
    # A process that has used gRPC cannot be forked: the child hangs.
    with ProcessPoolExecutor(_PROCESSES, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield SenderPool(executor, _PROCESSES)


@pytest.mark.parametrize("model", _MODELS)
def test_one_in_flight(benchmark: Any, served: RunningServer, messages: dict[str, list[Any]], model: str) -> None:
    _skip_without_teacher(served, model)
    stub, turn = connect(served.url), itertools.cycle(messages[model])

    def infer(message: Any) -> Any:
        return stub.ModelInfer(message, timeout=_TIMEOUT_S)

    for _ in range(_WARMUP_REQUESTS):
        answer = infer(next(turn))
    if model != FRONT_DOOR_NAME:
        read_answer(answer, rows=1)
    benchmark.group = "serving, one request in flight"
    before = statistics(stub, model)
    benchmark.pedantic(infer, setup=lambda: ((next(turn),), {}), rounds=_SINGLE_REQUESTS)
    _note(benchmark, model, 1, server_side(before, statistics(stub, model)), list(benchmark.stats.stats.data))
    benchmark.extra_info["requests_per_s"] = 1 / benchmark.stats.stats.mean


@pytest.mark.parametrize("concurrency", [8, 32], ids="in-flight-{}".format)
@pytest.mark.parametrize("model", _MODELS)
def test_throughput(
    benchmark: Any,
    served: RunningServer,
    messages: dict[str, list[Any]],
    pool: SenderPool,
    model: str,
    concurrency: int,
) -> None:
    _skip_without_teacher(served, model)
    stub, serialised = connect(served.url), [message.SerializeToString() for message in messages[model]]
    seconds: list[float] = []

    def load() -> None:
        seconds.extend(send_all(served.url, serialised, _CONCURRENT_REQUESTS, concurrency, pool))

    load()
    seconds.clear()  # The first load warms the server up.
    benchmark.group = f"serving, {_CONCURRENT_REQUESTS} requests, {concurrency} in flight"
    before = statistics(stub, model)
    benchmark.pedantic(load, rounds=_ROUNDS)
    _note(benchmark, model, concurrency, server_side(before, statistics(stub, model)), seconds)
    benchmark.extra_info["requests_per_s"] = _CONCURRENT_REQUESTS / benchmark.stats.stats.median


def _note(benchmark: Any, model: str, concurrency: int, server: dict[str, Any], seconds: list[float]) -> None:
    client_ms = float(np.mean(seconds)) * 1000 - server["server_ms"]
    benchmark.extra_info |= {"suite": "serving", "model": model, "concurrency": concurrency, "client_side_ms": client_ms}
    benchmark.extra_info |= server | quantiles_ms(seconds)


def _skip_without_teacher(served: RunningServer, model: str) -> None:
    if model == TEACHER_NAME and not served.has_teacher:
        pytest.skip("needs the teacher of a run, and --artefact names an export folder alone")
