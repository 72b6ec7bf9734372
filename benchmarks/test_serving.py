"""Throughput of a real tritonserver on this machine: 32 requests in flight, of one user each.

``identity`` has the student's tensors and does no work: what remains is the price of serving. Times are for 2,000 requests.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from tritonclient import grpc

from distill.teacher_stage import load_ensemble
from distilrec.config import Config
from distilrec.data.dataset import HeldOut, held_out
from distilrec.data.stage import load
from distilrec.pipeline import run_dir, served_artefact, teacher_folders
from distilrec.serving.server import TritonServer, free_ports
from export.benchmark_models import fill_benchmark_models
from export.repository import fill_repository
from export.stage import recommender_spec

_PROCESSES, _THREADS = 4, 8
_REQUESTS = 2000


@pytest.fixture(scope="module")
def server(finished: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("serving")
    config = finished.export.model_copy(update={"repository": folder / "repo"})
    artefact = served_artefact(finished)
    fill_repository(artefact, config)
    _, vocabulary = load(run_dir(finished) / "data")
    fill_benchmark_models(load_ensemble(finished, teacher_folders(finished), len(vocabulary)), artefact, config)
    with TritonServer(config.repository, free_ports(), folder / "log") as server:
        yield server


@pytest.fixture(scope="module")
def users(finished: Config) -> tuple[HeldOut, list[list[str]]]:
    dataset, vocabulary = load(run_dir(finished) / "data")
    users = held_out(dataset, "test", recommender_spec(finished, len(vocabulary)), max_users=64)
    return users, [vocabulary.decode(row[row > 0].tolist()) for row in users.history]


@pytest.mark.parametrize("model", ["identity", "student", "recommend", "teacher"])
def test_throughput(benchmark: Any, server: TritonServer, users: tuple[HeldOut, list[list[str]]], model: str) -> None:
    held, texts = users
    requests: list[dict[str, Any]] = (
        [{"history": np.array([[text.encode() for text in row]], np.object_)} for row in texts]
        if model == "recommend"
        else [{"history": held.history[i : i + 1], "exclude": held.exclude[i : i + 1]} for i in range(len(texts))]
    )
    benchmark.group = f"{_REQUESTS} requests through tritonserver, {_PROCESSES * _THREADS} in flight"
    with ProcessPoolExecutor(_PROCESSES, initializer=_connect, initargs=(server.url,)) as pool:

        def load() -> None:
            share = _REQUESTS // _PROCESSES
            assert sum(pool.map(_send, [(model, requests, share)] * _PROCESSES)) == _REQUESTS

        benchmark.pedantic(load, rounds=5, warmup_rounds=1)
    benchmark.extra_info["requests_per_s"] = _REQUESTS / benchmark.stats.stats.median


_client: grpc.InferenceServerClient


def _connect(url: str) -> None:
    global _client  # noqa: PLW0603 - one connection for each process of the pool
    _client = grpc.InferenceServerClient(url)


def _send(job: tuple[str, list[dict[str, Any]], int]) -> int:
    model, requests, count = job

    def ask(place: int) -> int:
        inputs = []
        for name, values in requests[place % len(requests)].items():
            tensor = grpc.InferInput(name, values.shape, "BYTES" if values.dtype == np.object_ else "INT32")
            tensor.set_data_from_numpy(values)
            inputs.append(tensor)
        return int(_client.infer(model, inputs, client_timeout=30).get_response().model_name == model)

    with ThreadPoolExecutor(_THREADS) as pool:
        return sum(pool.map(ask, range(count)))
