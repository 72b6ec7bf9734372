"""A real tritonserver on this machine, asked over gRPC: one request in flight, and several.

``identity`` has the student's tensors and does no work: what remains is the price of serving. What the server spent, by its own
statistics, is told from what the client and the way to it took.
"""

import itertools
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pytest

from benchmarks.subject import Subject
from benchmarks.timing import quantiles_ms
from benchmarks.wire_load import connect, send_all, server_side, statistics
from clients.wire import front_door_request, infer_request, read_answer
from distilrec.config import ExportConfig
from distilrec.core.errors import MissingExtraError, ServerError
from distilrec.core.specs import FRONT_DOOR_NAME, MODEL_NAME
from distilrec.data.vocabulary import FILE_NAME as VOCABULARY
from distilrec.data.vocabulary import load_vocabulary
from distilrec.pipeline.stages import teacher_folders
from distilrec.serving.process.server import TritonServer, free_ports
from distilrec.serving.process.wheel import find_tritonserver
from export.repository.benchmark_models import fill_benchmark_models
from export.repository.fill import IDENTITY_NAME, TEACHER_NAME, fill_repository

_MODELS = (IDENTITY_NAME, MODEL_NAME, FRONT_DOOR_NAME, TEACHER_NAME)
_ONE_BY_ONE, _TOGETHER = 500, 1000
_PROCESSES = 4
_USERS = 64


class Served(NamedTuple):
    """A running server."""

    url: str
    has_teacher: bool


@pytest.fixture(scope="module")
def served(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
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
        yield Served(server.url, subject.config is not None)


def _fill_benchmark_models(subject: Subject, config: ExportConfig) -> None:
    from distill.models.teachers.load import load_ensemble

    run = subject.config
    teacher = load_ensemble(run, teacher_folders(run), subject.spec.item_count) if run else None
    fill_benchmark_models(teacher, subject.artefact, config)


@pytest.fixture(scope="module")
def messages(subject: Subject) -> dict[str, list[Any]]:
    """A request of each user, by model."""
    asked = subject.requests
    rows = np.flatnonzero((asked.history > 0).any(axis=1))[:_USERS]
    vocabulary = load_vocabulary(subject.artefact / VOCABULARY)
    texts = [vocabulary.decode(asked.history[row][asked.history[row] > 0].tolist()) for row in rows]
    by_index = {
        model: [infer_request(model, asked.history[row, None], asked.exclude[row, None]) for row in rows]
        for model in (IDENTITY_NAME, MODEL_NAME, TEACHER_NAME)
    }
    return by_index | {FRONT_DOOR_NAME: [front_door_request([text], [[]], k=10) for text in texts]}


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    import multiprocessing

    # Forked processes of one that has used gRPC hang.
    with ProcessPoolExecutor(_PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("model", _MODELS)
def test_one_in_flight(benchmark: Any, served: Served, messages: dict[str, list[Any]], model: str) -> None:
    _skip_without_teacher(served, model)
    stub, turn = connect(served.url), itertools.cycle(messages[model])

    def ask(message: Any) -> Any:
        return stub.ModelInfer(message, timeout=30)

    for _ in range(20):
        answer = ask(next(turn))
    if model != FRONT_DOOR_NAME:
        read_answer(answer, rows=1)
    benchmark.group = "serving, one request in flight"
    before = statistics(stub, model)
    benchmark.pedantic(ask, setup=lambda: ((next(turn),), {}), rounds=_ONE_BY_ONE)
    _note(benchmark, model, 1, server_side(before, statistics(stub, model)), list(benchmark.stats.stats.data))
    benchmark.extra_info["requests_per_s"] = 1 / benchmark.stats.stats.mean


@pytest.mark.parametrize("concurrency", [8, 32], ids="in-flight-{}".format)
@pytest.mark.parametrize("model", _MODELS)
def test_throughput(
    benchmark: Any,
    served: Served,
    messages: dict[str, list[Any]],
    pool: ProcessPoolExecutor,
    model: str,
    concurrency: int,
) -> None:
    _skip_without_teacher(served, model)
    stub, texts = connect(served.url), [message.SerializeToString() for message in messages[model]]
    took: list[float] = []

    def load() -> None:
        took.extend(send_all(served.url, texts, _TOGETHER, concurrency, pool))

    load()
    took.clear()
    benchmark.group = f"serving, {_TOGETHER} requests, {concurrency} in flight"
    before = statistics(stub, model)
    benchmark.pedantic(load, rounds=3)
    _note(benchmark, model, concurrency, server_side(before, statistics(stub, model)), took)
    benchmark.extra_info["requests_per_s"] = _TOGETHER / benchmark.stats.stats.median


def _note(benchmark: Any, model: str, concurrency: int, server: dict[str, Any], took: list[float]) -> None:
    client_ms = float(np.mean(took)) * 1000 - server["server_ms"]
    benchmark.extra_info |= {"suite": "serving", "model": model, "concurrency": concurrency, "client_side_ms": client_ms}
    benchmark.extra_info |= server | quantiles_ms(took)


def _skip_without_teacher(served: Served, model: str) -> None:
    if model == TEACHER_NAME and not served.has_teacher:
        pytest.skip("needs the teacher of a run, and --artefact names an export folder alone")
