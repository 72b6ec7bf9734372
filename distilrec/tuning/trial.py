"""One trial: a student is trained on finished soft targets, exported, timed and evaluated."""

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
from distilrec.data.sizes import with_sizes
from distilrec.evaluation.latency import p50_ms
from distilrec.evaluation.ranking import ranking_metrics, recommend_all
from distilrec.tuning.study import StopRule, TrialResult
from export.graph.onnx import export_onnx
from export.graph.onnx_runner import OnnxRunner

_BATCH_SIZE = 64


def evaluate(config: Config, inputs: Inputs, folder: Path, rule: StopRule) -> TrialResult:
    """Train ``config.student``, export it in FP32 and evaluate it by the validation users; the test part is not read.

    Args:
        config: Settings with the student to try.
        inputs: Folders of data, text and targets.
        folder: Folder of all trials; an interrupted training with the same student resumes from its checkpoint there.
        rule: When to stop the training early.
    """
    dataset, _ = data_stage.load(inputs["data"])
    config = with_sizes(config, dataset)
    spec = spec_of_run(config, dataset.item_count)
    users = held_out(dataset, "validation", spec)
    with _scratch(folder / sha256_of_json(config.student.model_dump(mode="json"))[:16]) as scratch:
        student, result = fit_student(config.student, config, inputs, scratch, give_up=rule)
        student.items.fold()
        model = scratch / "model.onnx"
        export_onnx(Recommender(student, spec, data_stage.filters_of(inputs["data"])).eval(), model, {})
        runner = OnnxRunner(model, spec)
        items, _ = recommend_all(runner, users, _BATCH_SIZE, "validation")
        return TrialResult(
            ndcg=ranking_metrics(items, users)["ndcg@10"],
            p50_ms=p50_ms({"student": runner}, users.history, users.exclude, users.choices)["student"],
            parameters=student.parameter_count(),
            epochs=result.epochs,
            curve=result.curve,
        )


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder that is deleted unless the process is interrupted."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except Exception:
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)
