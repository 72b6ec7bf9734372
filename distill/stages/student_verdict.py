"""Stage ``student-verdict``: rank validation users with and without what the teacher taught, and decide which student ships."""

import logging
from pathlib import Path
from typing import Any

from distill.models.runner import TorchRunner
from distill.models.students.build import load_student
from distilrec.config import Config, judged_with, spec_of_run
from distilrec.config.section import declarations_of
from distilrec.core.manifest import Manifest
from distilrec.core.stage import Inputs, run_stage
from distilrec.data import stage as data_stage
from distilrec.data.dataset import Dataset, held_out
from distilrec.evaluation.ranking import PRIMARY_K, evaluate_runners
from distilrec.evaluation.verdict import StudentComparison, choose_student, forced_student

logger = logging.getLogger(__name__)


def run(config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Choose the student to export. Inputs: data, distilled, undistilled.

    The folder holds only a manifest. Its metrics name the student that ships, with the reason and the figures. They are not part of
    the manifest's digest, so that later stages are skipped as long as the same student ships.
    """

    def work(_folder: Path, _scratch: Path) -> dict[str, Any]:
        dataset, _ = data_stage.load(inputs["data"])
        compared = _compare(config, inputs, dataset)
        wanted = config.export.student
        verdict = choose_student(compared) if wanted == "auto" else forced_student(wanted, compared)
        ranks_worse = compared.worse() == verdict.choice
        logger.log(logging.WARNING if ranks_worse else logging.INFO, "student-verdict: %s", verdict.reason)
        return {
            "ships": verdict.choice,
            "ranks_worse": ranks_worse,
            "reason": verdict.reason,
            "users": compared.users,
            "ndcg@10": {"distilled": compared.distilled, "undistilled": compared.undistilled},
            "difference": {"mean": compared.difference.mean, "low": compared.difference.low, "high": compared.difference.high},
        }

    sizes = {"history_length": config.history_length, "exclude_length": config.export.exclude_length, **judged_with(config)}
    return run_stage(
        "student-verdict",
        settings={"student": config.export.student} | sizes,
        seed=config.seed,
        inputs=inputs,
        out_dir=out_dir,
        work=work,
        declarations=declarations_of(config.student),
    )


def _compare(config: Config, inputs: Inputs, dataset: Dataset) -> StudentComparison:
    """Rank the whole catalogue for all validation users with both students; the test split is not read."""
    spec = spec_of_run(config, dataset.item_count, PRIMARY_K)
    users = held_out(dataset, "validation", spec)
    runners = {
        name: TorchRunner(load_student(config, inputs[name], dataset.item_count), spec) for name in ("distilled", "undistilled")
    }
    counts = dataset.training_counts()
    everybody = evaluate_runners(runners, users, counts, [], references=["undistilled"], ks=[PRIMARY_K]).everybody
    metric = f"ndcg@{PRIMARY_K}"
    return StudentComparison(
        everybody.users,
        everybody.estimates["distilled"][metric].mean,
        everybody.estimates["undistilled"][metric].mean,
        everybody.differences["undistilled"]["distilled"][metric],
    )
