"""The table of the demo: every hop from teacher to live server, judged by the same held-out users in one run."""

import time
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
    import torch

    from clients.grpc_model import GrpcModel
    from distill.encoders import Encoder
    from distill.runner import TorchRunner
    from distill.student_stage import WEIGHTS as STUDENT_WEIGHTS
    from distill.student_stage import load_student
    from distill.teacher_stage import WEIGHTS as TEACHER_WEIGHTS
    from distill.teacher_stage import load_teacher
    from distilrec.data.stage import load
    from export.onnx_runner import OnnxRunner
    from export.stage import recommender_spec

    folder = run_dir(config)
    dataset, vocabulary = load(folder / "data")
    spec = recommender_spec(config, len(vocabulary))
    users = held_out(dataset, "test", spec)
    teacher, alone, distilled = (folder / name for name in ("teacher", "student-undistilled", "student"))
    models: dict[str, tuple[Encoder, Path]] = {
        "teacher (PyTorch)": (load_teacher(config, teacher, len(vocabulary)), teacher / TEACHER_WEIGHTS),
        "student, no teacher": (load_student(config, alone, len(vocabulary)), alone / STUDENT_WEIGHTS),
        "student, distilled": (load_student(config, distilled, len(vocabulary)), distilled / STUDENT_WEIGHTS),
    }
    torch.set_num_threads(1)
    rows = [
        _measure(name, TorchRunner(model, spec), users, model.parameter_count(), _size(path))
        for name, (model, path) in models.items()
    ]
    parameters, size = rows[-1].parameters, _size(folder / "export" / MODEL_FILE)
    rows.append(_measure("distilled, ONNX", OnnxRunner(folder / "export" / MODEL_FILE, spec), users, parameters, size))
    with GrpcModel(url) as served:
        rows.append(_measure("distilled, through Triton (gRPC)", served, users, parameters, size))
    return Comparison(rows, users)


def markdown_table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| " + " | ".join(_HEADINGS) + " |", "|---|" + "---:|" * (len(_HEADINGS) - 1)]
    lines += [
        f"| {r.name} | {r.ndcg:.4f} | {r.hit_rate:.4f} | {r.parameters:,} | {r.size_bytes:,} | {r.p50_ms:.2f} |" for r in rows
    ]
    return "\n".join(lines)


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
