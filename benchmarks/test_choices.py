"""What a filter costs with 100,000 items, in ONNX Runtime and through a real tritonserver: an untrained student over random items.

Models and requests take turns within one run: the plain graph, and the graph with filters for requests without a filter and for
requests whose filter leaves 1 % of the catalogue. The time does not depend on the values of the weights.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clients.grpc_model import GrpcModel
from distill.models.encoders import Recommender
from distill.models.item_table import ItemTable
from distill.models.students.mlp import MlpStudentConfig
from distilrec.config import CalibrationConfig, ExportConfig
from distilrec.core.specs import FIRST_VERSION, MODEL_NAME, Precision, RecommenderSpec
from distilrec.data.item_filters import ItemFilters, build_filters
from distilrec.serving.process.server import TritonServer, free_ports
from export.artefact import model_path, served_files
from export.graph.calibration import CalibrationSet
from export.graph.onnx import export_onnx
from export.graph.onnx_runner import OnnxRunner
from export.graph.precisions import Quantization, make_precisions
from export.repository.config import ServedModelFacts
from export.repository.targets.python import PYTHON
from export.repository.version_files import make_version, model_source

_ITEMS, _HISTORY, _EXCLUDE, _TOP_K, _FILTER = 100_000, 50, 128, 100, 16
_BRANDS = 500
_REQUESTS = 256
_BLOCK = 20
"""Requests of a kind in a row; the first quarter brings the model back into the caches and does not count."""
_BUDGET_S = 8.0

Ask = Callable[[int], Any]


@pytest.fixture(scope="module")
def filters() -> ItemFilters:
    """A category of which one value has 1 % of the items, and 500 brands of Zipf's popularity."""
    brands = np.random.default_rng(0).zipf(1.5, _ITEMS) % _BRANDS
    categories = [["rare"] if item % 100 == 0 else [f"category {item % 20}"] for item in range(_ITEMS)]
    return build_filters({"category": categories, "brand": [[f"brand {brand}"] for brand in brands]})


@pytest.fixture(scope="module")
def artefacts(filters: ItemFilters, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, RecommenderSpec]]:
    """The same student without filters and with them, in all precisions."""
    torch.manual_seed(0)
    config = MlpStudentConfig()
    student = config.build(ItemTable(_ITEMS, config.embedding_size), _HISTORY).eval()
    made = {}
    for name, length in (("plain", 0), ("filters", _FILTER)):
        spec = RecommenderSpec(_ITEMS, _HISTORY, _EXCLUDE, _TOP_K, filter_length=length)
        folder = tmp_path_factory.mktemp(name)
        path = model_path(folder, Precision.FP32)
        path.parent.mkdir()
        properties = {"vocabulary_sha256": "random", "item_count": str(_ITEMS), "precision": "fp32"}
        export_onnx(Recommender(student, spec, filters).eval(), path, properties)
        empty = np.zeros((_REQUESTS, _EXCLUDE), np.int32)
        assert not make_precisions(folder, Quantization(CalibrationSet(histories(), empty, ""), CalibrationConfig()))
        made[name] = folder, spec
    return made


def histories() -> Any:
    return np.random.default_rng(1).integers(1, _ITEMS + 1, (_REQUESTS, _HISTORY), dtype=np.int32)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8], ids=lambda precision: precision.value)
@pytest.mark.parametrize("where", ["onnxruntime", "triton"])
def test_filter_of_one_percent(
    benchmark: Any, artefacts: dict[str, Any], filters: ItemFilters, tmp_path: Path, where: str, precision: Precision
) -> None:
    benchmark.group = f"filters, {_ITEMS:,} items, {where}"
    with ExitStack() as stack:
        if where == "onnxruntime":
            runners: dict[str, Any] = {
                name: OnnxRunner(model_path(folder, precision), spec) for name, (folder, spec) in artefacts.items()
            }
        else:
            runners = stack.enter_context(served(artefacts, precision, tmp_path))
        kinds = kinds_of_requests(runners, filters)
        taken = benchmark.pedantic(lambda: take_turns(kinds), rounds=1)
    p50 = {name: 1000 * statistics.median(seconds) for name, seconds in taken.items()}
    p10 = {name: 1000 * statistics.quantiles(seconds, n=10)[0] for name, seconds in taken.items()}
    benchmark.extra_info |= {"suite": "filters", "where": where, "precision": precision.value, "items": _ITEMS}
    benchmark.extra_info |= {f"{name}_p50_ms": round(value, 4) for name, value in p50.items()}
    benchmark.extra_info |= {f"{name}_p10_ms": round(value, 4) for name, value in p10.items()}  # what other programs disturb least
    benchmark.extra_info |= {
        "filter_to_no_filter": round(p50["filter"] / p50["no_filter"], 3),
        "filter_to_plain_graph": round(p50["filter"] / p50["plain_graph"], 3),
    }


def kinds_of_requests(runners: dict[str, Any], filters: ItemFilters) -> dict[str, Ask]:
    """Functions that send the n-th request of each kind."""
    history, exclude = histories(), np.zeros((1, _EXCLUDE), np.int32)
    wanted = np.zeros((1, _FILTER), np.int32)
    wanted[0, 0] = filters.values.code("category", "rare")

    def ask(model: str, **choices: Any) -> Ask:
        return lambda n: runners[model].recommend(history[n % _REQUESTS, None], exclude, choices)

    return {"plain_graph": ask("plain"), "no_filter": ask("filters", filter=wanted * 0), "filter": ask("filters", filter=wanted)}


def take_turns(kinds: dict[str, Ask]) -> dict[str, list[float]]:
    """Seconds of requests of each kind, which take turns in blocks for a fixed time."""
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    end, sent = time.monotonic() + _BUDGET_S, 0
    while time.monotonic() < end:
        for name, ask in kinds.items():
            for place in range(_BLOCK):
                began = time.perf_counter()
                ask(sent + place)
                if place >= _BLOCK // 4:
                    taken[name].append(time.perf_counter() - began)
        sent += _BLOCK
    return taken


@contextmanager
def served(
    artefacts: dict[str, tuple[Path, RecommenderSpec]], precision: Precision, folder: Path
) -> Iterator[dict[str, GrpcModel]]:
    """Both models in one tritonserver, by name."""
    repository = folder / "repository"
    names = {"plain": MODEL_NAME, "filters": "filters"}  # a server wants a model of this name
    for name, (artefact, spec) in artefacts.items():
        version = repository / names[name] / str(FIRST_VERSION)
        make_version(version, {path.name: path for path in served_files(artefact, precision)})
        (version / "model.py").write_text(model_source(MODEL_NAME))
        facts = ServedModelFacts(spec, "random", precision)
        (version.parent / "config.pbtxt").write_text(PYTHON.render(names[name], facts, ExportConfig(instances=1), FIRST_VERSION))
    with ExitStack() as stack:
        server = stack.enter_context(TritonServer(repository, free_ports(), folder / "log"))
        yield {name: stack.enter_context(GrpcModel(server.url, names[name], spec=spec)) for name, (_, spec) in artefacts.items()}
