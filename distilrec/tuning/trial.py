"""One trial: a student trained on the ready soft targets, exported and timed, and judged as it was exported."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distill.models.encoders import Recommender
from distill.stages.student import fit_student
from distilrec.config import Config, spec_of_run
from distilrec.core.manifest import sha256_of_json
from distilrec.core.stage import Inputs
from distilrec.data import stage as data_stage
from distilrec.data.dataset import held_out
from distilrec.evaluation.latency import p50_ms
from distilrec.evaluation.ranking import ranking_metrics, recommend_all
from distilrec.tuning.study import Bar, Outcome
from export.graph.onnx import export_onnx
from export.graph.onnx_runner import OnnxRunner

_BATCH_SIZE = 64


def evaluate(config: Config, inputs: Inputs, folder: Path, bar: Bar) -> Outcome:
    """Train ``config.student``, export it in FP32 and ask it about the validation users; the test part is not touched.

    Args:
        config: with the student to try.
        inputs: data, text and targets.
        folder: of all trials; an interrupted training with the same student leaves its checkpoint there, and is gone on from.
        bar: when to give the training up.
    """
    dataset, _ = data_stage.load(inputs["data"])
    spec = spec_of_run(config, dataset.item_count)
    users = held_out(dataset, "validation", spec)
    with _scratch(folder / sha256_of_json(config.student.model_dump(mode="json"))[:16]) as scratch:
        student, result = fit_student(config.student, config, inputs, scratch, give_up=bar)
        student.items.fold()
        model = scratch / "model.onnx"
        export_onnx(Recommender(student, spec).eval(), model, {})
        runner = OnnxRunner(model, spec)
        items, _ = recommend_all(runner, users, _BATCH_SIZE, "validation")
        return Outcome(
            ndcg=ranking_metrics(items, users)["ndcg@10"],
            p50_ms=p50_ms({"student": runner}, users.history, users.exclude)["student"],
            parameters=student.parameter_count(),
            epochs=result.epochs,
            curve=result.curve,
        )


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder that only an interruption leaves behind."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except Exception:
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)
