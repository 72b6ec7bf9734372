"""A million items against ten thousand: time of a request with each head, through a server, and until new items are live.

Both students were trained on the generated shop, which is synthetic. Times are ratios of one run.
"""

import itertools
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from benchmarks.large_shop import LargeShop, export_approximate, export_exhaustive, reference_of, trained
from benchmarks.timing import quantiles_ms, time_requests
from benchmarks.wire_load import SenderPool, connect, send_all
from clients.wire import front_door_request, infer_request
from distill.models.item_table import ItemTable
from distilrec.config import ExportConfig
from distilrec.core.runner import NOTHING_CHOSEN, Answer, Choices, Runner
from distilrec.core.specs import FRONT_DOOR_NAME, MODEL_NAME
from distilrec.evaluation.metrics import overlap
from distilrec.serving.process.processes import living
from distilrec.serving.process.security import ControlSecret
from distilrec.serving.process.server import TritonServer, free_ports
from distilrec.serving.rollout.live import Server
from distilrec.serving.rollout.live_checks import Limits
from distilrec.serving.rollout.promotion import promote
from export.artefact import head_folder
from export.graph.calibration import CalibrationSet
from export.graph.precisions import Reference, answers
from export.heads.choose import HeadResult
from export.heads.runner import ApproximateRunner
from export.repository.fill import fill_repository

_SMALL = {"items": 10_000, "users": 100_000, "events": 2_000_000, "steps": 2000}
_LARGE = {"items": 1_000_000, "users": 400_000, "events": 8_000_000, "steps": 10_000}
_NEW = 10_000
"""Items that are added."""
_ROUNDS, _REQUESTS_A_ROUND = 10, 60
"""Servers take turns, so that a slow moment of the machine slows both."""
_CONCURRENCY, _CONCURRENT_REQUESTS, _PROCESSES = 32, 1000, 4
_WARM_UP, _TIMEOUT_S = 20, 30
_BUDGET_S = 3.0


class Exported(NamedTuple):
    """A shop with what was exported of it."""

    shop: LargeShop
    exhaustive: Runner
    reference: Reference
    artefact: Path
    head: HeadResult | None


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    shop, folder = trained(**_SMALL), tmp_path_factory.mktemp("small") / "export"
    exhaustive = export_exhaustive(shop, folder)
    return Exported(shop, exhaustive, reference_of(shop, exhaustive), folder, None)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    shop, folder = trained(**_LARGE), tmp_path_factory.mktemp("large")
    exhaustive = export_exhaustive(shop, folder / "exhaustive")
    reference = reference_of(shop, exhaustive)
    head = export_approximate(shop, exhaustive, reference, folder / "approximate")
    return Exported(shop, exhaustive, reference, folder / "approximate", head)


class Flat:
    """faiss's exact search over all item vectors, with the student's encoder; more items are asked for than may be banned."""

    def __init__(self, shop: LargeShop, encoder: ApproximateRunner) -> None:
        import faiss

        self.encoder = encoder.head
        self.index = faiss.IndexFlatIP(shop.student.items.learned.shape[1])
        self.index.add(shop.student.items.learned.detach().numpy()[1 : shop.spec.item_count + 1])
        self.count = shop.spec.top_k + shop.spec.history_length

    def recommend(self, history: Any, exclude: Any, _choices: Choices = NOTHING_CHOSEN) -> Answer:
        """The K best, without the history."""
        scores, found = self.index.search(self.encoder.user_vectors(history), self.count + np.count_nonzero(exclude))
        items = (found + 1).astype(np.int32)
        kept = ~np.isin(items, np.concatenate([history, exclude], axis=1))
        return items[kept][None, : self.encoder.settings.top_k], scores[kept][None, : self.encoder.settings.top_k]


class Als:
    """implicit's ``recommend`` with factors of the student's size: its time does not depend on their values."""

    def __init__(self, shop: LargeShop) -> None:
        from implicit.cpu.als import AlternatingLeastSquares
        from scipy.sparse import csr_matrix

        table = shop.student.items.learned.detach().numpy()[1 : shop.spec.item_count + 1]
        self.model = AlternatingLeastSquares(factors=table.shape[1], num_threads=1)
        self.model.item_factors, self.model.user_factors = table, table[:1000]
        self.count, self.top_k = shop.spec.item_count, shop.spec.top_k
        self.row: Any = csr_matrix

    def recommend(self, history: Any, _exclude: Any, _choices: Choices = NOTHING_CHOSEN) -> Answer:
        """The K best, without the history."""
        seen = np.unique(history[history > 0]) - 1
        rows: Any = self.row((np.ones(len(seen)), seen, [0, len(seen)]), shape=(1, self.count))
        items, scores = self.model.recommend(0, rows, N=self.top_k, filter_already_liked_items=True)
        return items[None] + 1, scores[None]


@pytest.mark.parametrize("name", ["approximate", "exhaustive ONNX", "faiss flat", "implicit ALS", "exhaustive ONNX, 10,000 items"])
def test_heads(benchmark: Any, small: Exported, large: Exported, name: str) -> None:
    approximate = ApproximateRunner(head_folder(large.artefact), large.shop.spec)
    made = {
        "approximate": lambda: approximate,
        "exhaustive ONNX": lambda: large.exhaustive,
        "faiss flat": lambda: Flat(large.shop, approximate),
        "implicit ALS": lambda: Als(large.shop),
        "exhaustive ONNX, 10,000 items": lambda: small.exhaustive,
    }
    try:
        runner: Runner = made[name]()  # type: ignore[no-untyped-call]
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    shop = small.shop if runner is small.exhaustive else large.shop
    benchmark.group = "heads, one request on one thread"
    users = shop.users
    time_requests(benchmark, runner, CalibrationSet(users.history, users.exclude, ""), 1, budget_s=_BUDGET_S)
    benchmark.extra_info |= {"suite": "scale", "head": name, "items": shop.spec.item_count}
    if runner is approximate:
        items, _ = answers(runner, users, name)
        benchmark.extra_info["overlap_at_10"] = float(overlap(large.reference.expected[0], items, 10).mean())
        assert large.head is not None
        benchmark.extra_info |= {"reason": large.head.verdict.reason, **(large.head.facts or {})}


class Served(NamedTuple):
    """Two running servers, with requests by model."""

    servers: dict[str, TritonServer]
    messages: dict[str, dict[str, list[Any]]]


@pytest.fixture(scope="module")
def served(small: Exported, large: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    exports = {"small": small, "large": large}
    for name, exported in exports.items():
        fill_repository(exported.artefact, ExportConfig(repository=folder / name, instances=2))
    servers = {name: TritonServer(folder / name, free_ports(), folder / f"{name}.log", start_timeout_s=120) for name in exports}
    with servers["small"], servers["large"]:
        yield Served(servers, {name: _messages(exported.shop) for name, exported in exports.items()})


@pytest.mark.parametrize("model", [MODEL_NAME, FRONT_DOOR_NAME])
def test_one_in_flight(benchmark: Any, served: Served, model: str) -> None:
    stubs = {name: connect(server.url) for name, server in served.servers.items()}
    turns = {name: itertools.cycle(messages[model]) for name, messages in served.messages.items()}
    seconds: dict[str, list[float]] = {name: [] for name in stubs}

    def round_of(name: str, count: int) -> None:
        for _ in range(count):
            message, started = next(turns[name]), time.perf_counter()
            stubs[name].ModelInfer(message, timeout=_TIMEOUT_S)
            seconds[name].append(time.perf_counter() - started)

    for name in stubs:
        round_of(name, _WARM_UP)
        seconds[name].clear()

    def round_of_both() -> None:
        for name in stubs:
            round_of(name, _REQUESTS_A_ROUND)

    benchmark.pedantic(round_of_both, rounds=_ROUNDS)
    times = {name: quantiles_ms(of_server) for name, of_server in seconds.items()}
    ratio = times["large"]["p50_ms"] / times["small"]["p50_ms"]
    memory = {name: _memory_bytes(server) for name, server in served.servers.items()}
    benchmark.extra_info |= {"suite": "scale", "model": model, "times": times, "ratio": ratio, "memory_bytes": memory}


@pytest.mark.parametrize("model", [MODEL_NAME, FRONT_DOOR_NAME])
def test_many_in_flight(benchmark: Any, served: Served, model: str) -> None:
    rates: dict[str, list[float]] = {name: [] for name in served.servers}
    messages = {name: [m.SerializeToString() for m in of_server[model]] for name, of_server in served.messages.items()}
    with ProcessPoolExecutor(_PROCESSES, mp_context=multiprocessing.get_context("spawn")) as executor:
        pool = SenderPool(executor, _PROCESSES)

        def load() -> None:
            for name, server in served.servers.items():
                started = time.perf_counter()
                send_all(server.url, messages[name], _CONCURRENT_REQUESTS, _CONCURRENCY, pool)
                rates[name].append(_CONCURRENT_REQUESTS / (time.perf_counter() - started))

        load()
        for of_server in rates.values():
            of_server.clear()
        benchmark.pedantic(load, rounds=3)
    medians = {name: float(np.median(of_server)) for name, of_server in rates.items()}
    benchmark.extra_info |= {"suite": "scale", "model": model, "rates": medians, "ratio": medians["large"] / medians["small"]}


def test_new_items_go_live(benchmark: Any, large: Exported, tmp_path: Path) -> None:
    """10,000 items more, and one in a hundred thousand less, from the grown table until the server answers with them."""
    config, secret = ExportConfig(repository=tmp_path / "repo", instances=2), ControlSecret()
    fill_repository(large.artefact, config)
    retired = tuple(range(1, large.shop.spec.item_count, 100_000))
    steps: dict[str, float] = {}

    def grow(server: Server) -> None:
        started = time.perf_counter()
        shop = _with_new_items(large.shop)
        folder = tmp_path / "grown"
        steps["exhaustive"] = time.perf_counter() - started
        exhaustive = export_exhaustive(shop, folder / "exhaustive")
        reference = reference_of(shop, exhaustive)
        steps["reference"] = time.perf_counter() - started
        grown = export_approximate(shop, exhaustive, reference, folder / "approximate", former=large.artefact, retired=retired)
        steps["grown"] = time.perf_counter() - started
        benchmark.extra_info["overlap_at_10"] = grown.measured and grown.measured.agreement.overlap_at_10
        promote(folder / "approximate", config.repository, config, server, limits=Limits(watch_s=2, max_p99_ms=1000))
        steps["live"] = time.perf_counter() - started

    with TritonServer(config.repository, free_ports(), tmp_path / "log", secret=secret, start_timeout_s=120) as running:
        benchmark.pedantic(grow, args=(Server(running.url, secret, load_timeout_s=120),), rounds=1)
    benchmark.extra_info |= {"suite": "scale", "new_items": _NEW, "steps": steps}


def _with_new_items(shop: LargeShop) -> LargeShop:
    """The student with new items, each next to one that is known, as items of known content are."""
    count, width = shop.spec.item_count, shop.student.items.embedding_size
    table = ItemTable(count + _NEW, width)
    former = shop.student.items.learned.detach()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        table.learned[: count + 1] = former[: count + 1]
        near = former[torch.randint(1, count + 1, (_NEW,), generator=random)]
        table.learned[count + 1 : count + 1 + _NEW] = near + 0.05 * torch.randn(_NEW, width, generator=random)
    student = copy(shop.student)
    student._modules = {**student._modules, "items": table}
    return replace(shop, student=student, spec=replace(shop.spec, item_count=count + _NEW))


def _messages(shop: LargeShop) -> dict[str, list[Any]]:
    """Requests by model, one for each user."""
    users, rows = shop.users, range(min(256, len(shop.users.users)))
    ids = [[f"item-{item}" for item in users.history[row] if item] for row in rows]
    return {
        MODEL_NAME: [infer_request(MODEL_NAME, users.history[row, None], users.exclude[row, None], {}) for row in rows],
        FRONT_DOOR_NAME: [front_door_request([history], [[]], k=10) for history in ids],
    }


def _memory_bytes(server: TritonServer) -> int:
    """Memory of a server and its models; what processes share counts once (Pss)."""
    total = 0
    for pid in {server.pid, *living(server.pid)}:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
        total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total
