"""What distillation and ONNX buy: one request and a batch, one thread, teacher against student."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from distill.runner import TorchRunner
from distill.student_stage import load_student
from distill.teacher_stage import load_ensemble
from distilrec.config import Config
from distilrec.data.dataset import HeldOut, held_out
from distilrec.data.stage import load
from distilrec.evaluation import ranking_metrics
from distilrec.pipeline import run_dir, served_artefact, teacher_folders
from distilrec.runner import Runner
from distilrec.specs import Precision, RecommenderSpec
from export.onnx_runner import OnnxRunner
from export.stage import recommender_spec
from export.storage import model_path


def onnx_runner(precision: Precision) -> Callable[[Config, RecommenderSpec], Runner]:
    return lambda c, s: OnnxRunner(model_path(served_artefact(c), precision), s)


RUNNERS: dict[str, Callable[[Config, RecommenderSpec], Runner]] = {
    "teacher-pytorch": lambda c, s: TorchRunner(load_ensemble(c, teacher_folders(c), s.item_count), s),
    "student-pytorch": lambda c, s: TorchRunner(load_student(c, run_dir(c) / "student", s.item_count), s),
    **{f"student-onnx-{precision.value}": onnx_runner(precision) for precision in Precision},
}


@pytest.fixture(scope="module")
def users(finished: Config) -> tuple[RecommenderSpec, HeldOut]:
    dataset, vocabulary = load(run_dir(finished) / "data")
    spec = recommender_spec(finished, len(vocabulary))
    return spec, held_out(dataset, "test", spec, max_users=64)


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("name", RUNNERS)
def test_recommend(benchmark: Any, finished: Config, users: tuple[RecommenderSpec, HeldOut], name: str, batch: int) -> None:
    spec, held = users
    torch.set_num_threads(1)
    runner = RUNNERS[name](finished, spec)
    benchmark.group = f"recommend, batch {batch}"
    items, _ = benchmark(runner.recommend, held.history[:batch], held.exclude[:batch])
    if batch == len(held.users):
        benchmark.extra_info["ndcg@10_of_these_users"] = ranking_metrics(items, held)["ndcg@10"]
