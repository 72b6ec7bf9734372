"""The table of the demo: all models from the teacher to the live server, evaluated over the same held-out users."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from distilrec.config import Config, spec_of_run
from distilrec.core.manifest import read_manifest
from distilrec.core.runner import Runner
from distilrec.core.specs import Head, Precision
from distilrec.core.tables import markdown_table
from distilrec.data.dataset import HeldOut, held_out
from distilrec.evaluation.latency import p50_ms
from distilrec.evaluation.ranking import ranking_metrics, recommend_all
from distilrec.pipeline.finished import served_artefact
from distilrec.pipeline.folders import run_dir
from distilrec.pipeline.models import load_models
from distilrec.pipeline.stages import with_sizes_of_data

_BATCH_SIZE = 64
_HEADINGS = ("", "NDCG@10", "HR@10", "parameters", "bytes on disk", "p50 ms, one request")


@dataclass(frozen=True)
class ComparisonRow:
    """Ranking, size and speed of one model."""

    name: str
    ndcg: float
    hit_rate: float
    parameters: int
    size_bytes: int
    p50_ms: float
    """Median milliseconds of a request of one user; requests are sent one after another, on one thread."""


@dataclass(frozen=True)
class Comparison:
    """All models, evaluated over the same users."""

    rows: list[ComparisonRow]
    users: HeldOut


def compare_models(config: Config, url: str) -> Comparison:
    """Measure all models of a finished run.

    Args:
        config: Settings of the run.
        url: gRPC endpoint of a server that serves the run's export.
    """
    # Here, because gRPC, Polars and ONNX are slow to load, and the last two are optional.
    from clients.grpc_model import GrpcModel
    from distilrec.data.stage import load
    from export.artefact import head_files, model_size_bytes, served_head

    config = with_sizes_of_data(config)
    dataset, vocabulary = load(run_dir(config) / "data")
    spec = spec_of_run(config, len(vocabulary))
    users = held_out(dataset, "test", spec)
    rows = []
    with _one_thread():
        for model in load_models(config, spec, users):
            rows.append(_measure(model.name, model.runner, users, model.parameters, model.size_bytes))
        artefact = served_artefact(config)
        manifest = read_manifest(artefact)
        precision = Precision(manifest.metrics["precision"])
        with GrpcModel(url, spec=spec) as served:
            head = served_head(manifest) if config.export.target == "python" else Head.EXHAUSTIVE
            how, size = precision.value.upper(), model_size_bytes(artefact, precision)
            if head is Head.APPROXIMATE:
                how, size = "approximate head", sum(path.stat().st_size for path in head_files(artefact))
            name = f"student, through Triton (gRPC, {how})"
            rows.append(_measure(name, served, users, rows[-1].parameters, size))
    return Comparison(rows, users)


def comparison_table(rows: list[ComparisonRow]) -> str:
    """The rows as a Markdown table."""
    cells = [
        [r.name, f"{r.ndcg:.4f}", f"{r.hit_rate:.4f}", f"{r.parameters:,}", f"{r.size_bytes:,}", f"{r.p50_ms:.2f}"] for r in rows
    ]
    return markdown_table(_HEADINGS, cells, "|---|---:|---:|---:|---:|---:|")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run PyTorch on one thread, as ONNX Runtime and the server do."""
    import torch  # here, because the command line loads PyTorch only when it is needed

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _measure(name: str, runner: Runner, users: HeldOut, parameters: int, size_bytes: int) -> ComparisonRow:
    items, _ = recommend_all(runner, users, _BATCH_SIZE, name)
    metrics = ranking_metrics(items, users)
    time = p50_ms({name: runner}, users.history, users.exclude, users.choices)[name]
    return ComparisonRow(name, metrics["ndcg@10"], metrics["hr@10"], parameters, size_bytes, time)
