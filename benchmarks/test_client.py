"""Cost of the client compared with tritonclient alone: one call, many histories, and the import.

Both take turns in one run, and their ratio is the result. The model is small, so the client's own share of the time is large.
"""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tritonclient import grpc

from clients import RecommenderClient
from clients.codec import Query, encode, pack
from distilrec.config import Config, spec_of_run
from distilrec.data.dataset import held_out
from distilrec.data.stage import load
from distilrec.pipeline.finished import served_artefact
from distilrec.pipeline.folders import run_dir
from distilrec.serving.process.server import TritonServer, free_ports
from export.repository.fill import fill_repository

_CALLS = 2000
_PACKED_HISTORIES, _SINGLE_HISTORIES = 10_000, 1000
"""Histories of one ``recommend_many``, and of the loop of single calls, which takes longer for each."""
_IMPORTS = 15
_USERS = 500
"""Number of different histories."""
_TIMEOUT_S = 30.0
"""Of the bare call. A deadline that expires on the wire can end tritonserver 2.51."""


@pytest.fixture(scope="module")
def server(finished: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("client")
    config = finished.export.model_copy(update={"repository": folder / "repo"})
    fill_repository(served_artefact(finished), config)
    with TritonServer(config.repository, free_ports(), folder / "log") as server:
        yield server


@pytest.fixture(scope="module")
def histories(finished: Config) -> list[list[str]]:
    dataset, vocabulary = load(run_dir(finished) / "data")
    users = held_out(dataset, "test", spec_of_run(finished, len(vocabulary)), max_users=_USERS)
    return [vocabulary.decode(row[row > 0].tolist()) for row in users.history]


def test_recommend_beside_a_bare_call(benchmark: Any, server: TritonServer, histories: list[list[str]]) -> None:
    """Compare p50 of ``recommend``, with ids and titles, with p50 of ``tritonclient`` on the same tensors."""
    benchmark.group = "client: one request in flight"
    with RecommenderClient(server.url) as client, grpc.InferenceServerClient(server.url) as bare:
        spec, vocabulary = client.info().spec, client.vocabulary()
        tensors = [pack([encode(Query(history), vocabulary, spec)], spec)[:2] for history in histories]

        def bare_call(place: int) -> None:
            inputs = []
            for name, values in zip(("history", "exclude"), tensors[place], strict=True):
                inputs.append(grpc.InferInput(name, values.shape, "INT32"))
                inputs[-1].set_data_from_numpy(values)
            result = bare.infer("student", inputs, client_timeout=_TIMEOUT_S)
            assert result.as_numpy("items").shape == result.as_numpy("scores").shape

        def measure() -> dict[str, list[float]]:
            took: dict[str, list[float]] = {"recommend": [], "bare": []}
            calls: dict[str, Callable[[int], Any]] = {"recommend": lambda n: client.recommend(histories[n]), "bare": bare_call}
            for number in range(_CALLS):
                for name, call in calls.items():
                    begin = time.perf_counter()
                    call(number % len(histories))
                    took[name].append(time.perf_counter() - begin)
            return took

        took = benchmark.pedantic(measure, rounds=1, warmup_rounds=1)
    p50_ms = {name: 1000 * statistics.median(values) for name, values in took.items()}
    benchmark.extra_info |= {f"{name}_p50_ms": round(value, 4) for name, value in p50_ms.items()}
    benchmark.extra_info["ratio"] = round(p50_ms["recommend"] / p50_ms["bare"], 3)


def test_recommend_many_beside_single_calls(benchmark: Any, server: TritonServer, histories: list[list[str]]) -> None:
    """Compare the histories a second of one ``recommend_many`` with those of a loop of single calls."""
    benchmark.group = "client: many histories"
    many = [histories[number % len(histories)] for number in range(_PACKED_HISTORIES)]
    with RecommenderClient(server.url) as client:

        def measure() -> tuple[float, float]:
            begin = time.perf_counter()
            for history in many[:_SINGLE_HISTORIES]:
                client.recommend(history)
            between = time.perf_counter()
            assert len(client.recommend_many(many)) == _PACKED_HISTORIES
            return _SINGLE_HISTORIES / (between - begin), _PACKED_HISTORIES / (time.perf_counter() - between)

        single, packed = benchmark.pedantic(measure, rounds=1, warmup_rounds=1)
    benchmark.extra_info |= {"single_per_s": round(single), "many_per_s": round(packed), "ratio": round(packed / single, 2)}


def test_import_beside_tritonclient(benchmark: Any) -> None:
    """Compare the CPU seconds of importing the client with those of importing ``tritonclient.grpc`` alone."""
    benchmark.group = "client: import"

    def cpu_s(statement: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", statement], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    def measure() -> dict[str, float]:
        took: dict[str, list[float]] = {"import clients": [], "import tritonclient.grpc": []}
        for _ in range(_IMPORTS):
            for statement, values in took.items():
                values.append(cpu_s(statement))
        return {statement: float(np.median(values)) for statement, values in took.items()}

    took = benchmark.pedantic(measure, rounds=1, warmup_rounds=1)
    benchmark.extra_info |= {f"{statement} (CPU s)": round(value, 3) for statement, value in took.items()}
    benchmark.extra_info["ratio"] = round(took["import clients"] / took["import tritonclient.grpc"], 3)
