"""The table of the demo: every hop from teacher to live server, judged by the same held-out users in one run."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distilrec.config import Config
from distilrec.data.dataset import HeldOut, held_out
from distilrec.evaluation import ranking_metrics, recommend_all
from distilrec.pipeline import run_dir
from distilrec.runner import Runner
from distilrec.specs import MODEL_FILE

_TIMED_REQUESTS = 300
_WARM_UP_REQUESTS = 30
_BATCH_SIZE = 64
_HEADINGS = ("", "NDCG@10", "HR@10", "parameters", "bytes on disk", "p50 ms, one request")


@dataclass(frozen=True)
class Row:
    """One hop."""

    name: str
    ndcg: float
    hit_rate: float
    parameters: int
    size_bytes: int
    p50_ms: float
    """Median time of a request of one user, one after another, one thread."""


@dataclass(frozen=True)
class Comparison:
    """All hops, judged by the same users."""

    rows: list[Row]
    users: HeldOut


def compare_hops(config: Config, url: str) -> Comparison:
    """Measure all hops of a finished run; ``url`` is the gRPC endpoint of a server that serves its export."""
    from clients.grpc_model import GrpcModel
    from distill.encoders import Encoder
    from distill.runner import TorchRunner
    from distill.student_stage import load_student
    from distill.teacher_stage import load_teacher
    from distill.weights import WEIGHTS
    from distilrec.data.stage import load
    from export.onnx_runner import OnnxRunner
    from export.stage import recommender_spec

    folder = run_dir(config)
    dataset, vocabulary = load(folder / "data")
    spec = recommender_spec(config, len(vocabulary))
    users = held_out(dataset, "test", spec)
    models: dict[str, tuple[Callable[[Config, Path, int], Encoder], Path]] = {
        "teacher (PyTorch)": (load_teacher, folder / "teacher"),
        "student, no teacher": (load_student, folder / "student-undistilled"),
        "student, distilled": (load_student, folder / "student"),
    }
    rows = []
    with _one_thread():
        for name, (load_model, stage) in models.items():
            model = load_model(config, stage, len(vocabulary))
            rows.append(_measure(name, TorchRunner(model, spec), users, model.parameter_count(), _size(stage / WEIGHTS)))
        parameters, onnx = rows[-1].parameters, folder / "export" / MODEL_FILE
        rows.append(_measure("distilled, ONNX", OnnxRunner(onnx, spec), users, parameters, _size(onnx)))
        with GrpcModel(url) as served:
            rows.append(_measure("distilled, through Triton (gRPC)", served, users, parameters, _size(onnx)))
    return Comparison(rows, users)


def markdown_table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| " + " | ".join(_HEADINGS) + " |", "|---|" + "---:|" * (len(_HEADINGS) - 1)]
    lines += [
        f"| {r.name} | {r.ndcg:.4f} | {r.hit_rate:.4f} | {r.parameters:,} | {r.size_bytes:,} | {r.p50_ms:.2f} |" for r in rows
    ]
    return "\n".join(lines)


@contextmanager
def _one_thread() -> Iterator[None]:
    """PyTorch on one thread, as ONNX Runtime and the server are."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _measure(name: str, runner: Runner, users: HeldOut, parameters: int, size_bytes: int) -> Row:
    items, _ = recommend_all(runner, users, _BATCH_SIZE, name)
    metrics = ranking_metrics(items, users)
    return Row(name, metrics["ndcg@10"], metrics["hr@10"], parameters, size_bytes, _p50_ms(runner, users))


def _p50_ms(runner: Runner, users: HeldOut) -> float:
    seconds = []
    for request in range(_WARM_UP_REQUESTS + _TIMED_REQUESTS):
        row = request % len(users.users)
        history, exclude = users.history[row : row + 1], users.exclude[row : row + 1]
        started = time.perf_counter()
        runner.recommend(history, exclude)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[_WARM_UP_REQUESTS:]) * 1000)


def _size(path: Path) -> int:
    return path.stat().st_size
