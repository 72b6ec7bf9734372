"""Effect of promotions on clients: 20 promotions and 5 rollbacks of tiny students while two processes send requests.

Every answer is compared with the golden answers of the version that gave it. No request may fail, and every answer must match its
version. The time of the slowest request is only reported, not checked. Heavy imports are
inside the functions, because pytest collects benchmarks with every test run.
"""

import json
import os
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from clients.grpc_model import GrpcModel
from distilrec.config import ExportConfig
from distilrec.core import golden
from distilrec.core.golden import Golden, load_golden
from distilrec.core.manifest import Manifest, record_files, write_manifest
from distilrec.core.specs import Precision, RecommenderSpec
from distilrec.evaluation.parity import SCORE_TOLERANCE, compare
from distilrec.serving.process.security import ControlSecret
from distilrec.serving.process.server import TritonServer, free_ports
from distilrec.serving.rollout.live import Server
from distilrec.serving.rollout.live_checks import Limits
from distilrec.serving.rollout.promotion import promote, rollback
from export.artefact import model_path
from export.repository.fill import fill_repository

PROMOTIONS, ROLLBACKS, REQUESTS, PROCESSES, THREADS = 20, 5, 100_000, 2, 2
SPEC = RecommenderSpec(1000, history_length=20, exclude_length=32, top_k=20)
STOP = "stop"
"""File that tells the clients to stop."""
GOLDEN_REQUESTS = 64
WATCH_S = 2.0
"""Seconds for which each promotion is watched; short, as there are many."""
POLL_S, STOP_TIMEOUT_S = 0.1, 60


def make_artefact(folder: Path, seed: int) -> Path:
    """Write the export of an untrained student, as far as promotion reads it."""
    import torch

    from distill.models.encoders import Recommender
    from distill.models.item_table import ItemTable
    from distill.models.students.mlp import MlpStudent
    from distilrec.data import vocabulary as vocabularies
    from export.graph.onnx import export_onnx
    from export.graph.onnx_runner import OnnxRunner

    torch.manual_seed(seed)
    ids = tuple(f"item-{item}" for item in range(SPEC.item_count))
    vocabulary = vocabularies.Vocabulary(ids, ids)
    path = model_path(folder, Precision.FP32)
    path.parent.mkdir(parents=True)
    vocabulary.save(folder / vocabularies.FILE_NAME)
    student = MlpStudent(ItemTable(SPEC.item_count, 16), SPEC.history_length, 32, (0.5, 0.9), 0.0).eval()
    metadata = {"vocabulary_sha256": vocabulary.sha256, "item_count": str(SPEC.item_count), "precision": "fp32"}
    export_onnx(Recommender(student, SPEC).eval(), path, metadata)
    history = np.random.default_rng(0).integers(1, SPEC.item_count + 1, (GOLDEN_REQUESTS, SPEC.history_length), dtype=np.int32)
    exclude = np.zeros((GOLDEN_REQUESTS, SPEC.exclude_length), np.int32)
    Golden(history, exclude, *OnnxRunner(path, SPEC).recommend(history, exclude)).save(folder / golden.FILE_NAME)
    metrics = {"precision": "fp32", "vocabulary_sha256": vocabulary.sha256, "item_count": SPEC.item_count}
    sizes = {"history_length": SPEC.history_length, "exclude_length": SPEC.exclude_length, "top_k": SPEC.top_k}
    manifest = Manifest(
        stage="export", fingerprint=str(seed), settings=sizes, seed=seed, inputs={}, versions={}, files={}, metrics=metrics
    )
    write_manifest(folder, manifest.model_copy(update={"files": record_files(folder)}))
    return folder


def client(url: str, expected: Path) -> dict[str, Any]:
    """Send requests until the file ``stop`` exists; returns failures, wrong answers, versions and times.

    Args:
        url: Host and port of the gRPC endpoint.
        expected: Folder with the artefact of each version.
    """
    golden_of = cache(lambda version: load_golden(expected / str(version) / golden.FILE_NAME))
    outcome: dict[str, Any] = {"failed": [], "wrong": 0, "versions": set(), "took_ms": []}

    def send(row: int) -> None:
        # One byte for each request, as appending needs no lock.
        with GrpcModel(url) as model, (expected / f"{os.getpid()}.count").open("ab", buffering=0) as progress:
            while not (expected / STOP).exists():
                row = (row + 1) % GOLDEN_REQUESTS
                begin = time.perf_counter()
                try:
                    requests = golden_of("1")
                    items, scores, version = model.recommend_with_version(requests.history[row, None], requests.exclude[row, None])
                except Exception as error:  # Any error is a failed request.
                    outcome["failed"].append(repr(error))
                    continue
                outcome["took_ms"].append((time.perf_counter() - begin) * 1000)
                progress.write(b".")
                own = golden_of(version)
                parity = compare((own.items[row, None], own.scores[row, None]), (items, scores))
                outcome["wrong"] += bool(parity.misplaced or not parity.max_score_error <= SCORE_TOLERANCE)
                outcome["versions"].add(int(version))

    threads = [threading.Thread(target=send, args=(place,)) for place in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_ms = outcome.pop("took_ms")
    p99_ms, p50_ms = (float(np.percentile(took_ms, share)) for share in (99, 50))
    outcome |= {"versions": sorted(outcome["versions"]), "requests": len(took_ms), "slowest_ms": max(took_ms)}
    return outcome | {"p50_ms": p50_ms, "p99_ms": p99_ms}


def promote_and_roll_back(artefacts: Path, repository: Path, config: ExportConfig, server: Server) -> list[int]:
    """Make all promotions, with a rollback after every fourth; returns the versions that served, in their order."""
    served, limits = [1], Limits(watch_s=WATCH_S)
    for number in range(2, 2 + PROMOTIONS):
        served.append(promote(artefacts / str(number), repository, config, server, limits=limits).version)
        if number % (PROMOTIONS // ROLLBACKS) == 0:
            served.append(rollback(repository, server).version)
    return served


def test_promotions_under_load(benchmark: Any, tmp_path: Path) -> None:
    artefacts, repository = tmp_path / "artefacts", tmp_path / "repository"
    for number in range(1, 2 + PROMOTIONS):
        make_artefact(artefacts / str(number), number)
    config = ExportConfig(repository=repository, instances=1)
    fill_repository(artefacts / "1", config)
    secret = ControlSecret()
    with TritonServer(repository, free_ports(), tmp_path / "log", secret=secret) as running:
        live = Server(running.url, secret)
        command = [sys.executable, "-m", "benchmarks.test_promotion", live.url, str(artefacts)]
        clients = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
        try:
            while not all(answered(artefacts, process.pid) for process in clients):
                assert all(process.poll() is None for process in clients)
                time.sleep(POLL_S)
            served = benchmark.pedantic(promote_and_roll_back, (artefacts, repository, config, live), rounds=1)
            while sum(answered(artefacts, process.pid) for process in clients) < REQUESTS:
                assert all(process.poll() is None for process in clients)
                time.sleep(POLL_S)
        finally:
            (artefacts / STOP).touch()
            outputs = [process.communicate(timeout=STOP_TIMEOUT_S)[0] for process in clients]
    outcomes = [json.loads(output) for output in outputs]
    benchmark.extra_info["requests"] = sum(outcome["requests"] for outcome in outcomes)
    for name in ("p50_ms", "p99_ms", "slowest_ms"):
        benchmark.extra_info[name] = [round(outcome[name], 1) for outcome in outcomes]
    assert [outcome["failed"] for outcome in outcomes] == [[]] * PROCESSES
    assert [outcome["wrong"] for outcome in outcomes] == [0] * PROCESSES
    assert len(served) == 1 + PROMOTIONS + ROLLBACKS
    assert [outcome["versions"] for outcome in outcomes] == [sorted(set(served))] * PROCESSES
    assert benchmark.extra_info["requests"] >= REQUESTS


def answered(folder: Path, pid: int) -> int:
    """Return the number of answered requests of a client, which it keeps in a file."""
    path = folder / f"{pid}.count"
    return path.stat().st_size if path.exists() else 0


if __name__ == "__main__":
    print(json.dumps(client(sys.argv[1], Path(sys.argv[2]))))
