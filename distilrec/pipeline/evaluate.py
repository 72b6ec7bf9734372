"""Evaluate all models of a finished run, or of several runs that differ in their seed, into one folder."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distilrec.config import Config, judged_with, spec_of_run, with_seed
from distilrec.core.errors import DataError, ManifestError
from distilrec.core.files import write_text
from distilrec.core.manifest import read_manifest
from distilrec.core.specs import RecommenderSpec
from distilrec.core.stage import run_stage
from distilrec.data import attributes as user_attributes
from distilrec.data.dataset import HeldOut, Split, held_out, load_dataset
from distilrec.data.vocabulary import FILE_NAME as VOCABULARY
from distilrec.data.vocabulary import load_vocabulary
from distilrec.evaluation import bootstrap, slices
from distilrec.evaluation.metrics import popularity
from distilrec.evaluation.ranking import KS, UserMetrics, compare_metrics, cuts, join_seeds, recommend_all, user_metrics
from distilrec.evaluation.report import JSON_FILE, MARKDOWN_FILE, EvaluationReport, Roles, render_json, render_markdown
from distilrec.pipeline.cold import evaluate_cold
from distilrec.pipeline.finished import student_verdict
from distilrec.pipeline.folders import run_dir
from distilrec.pipeline.models import TEACHER, EvaluatedModel, load_models, model_folders, why_teacher_is_left_out
from distilrec.pipeline.run_lock import locked_run
from distilrec.pipeline.stages import with_sizes_of_data

logger = logging.getLogger(__name__)

_BATCH_SIZE = 64


def evaluate(config: Config, split: Split, seeds: Sequence[int] = ()) -> Path:
    """Evaluate all models and write evaluation.json and evaluation.md.

    Args:
        config: Settings of the run.
        split: "test", or "validation" for decisions that must not see the test split.
        seeds: Seeds of the runs that are averaged; the default is the run of ``config`` alone.

    Returns:
        Folder of both files, below the run of ``config``.

    Raises:
        ManifestError: A run is not finished or not whole, or the runs were not made of the same data.
        DataError: No user of the split has a history and something new after the cut.
        RunLockedError: Another process is running stages in the folder of the run of ``config``.
    """
    config = with_sizes_of_data(config)
    runs = [with_seed(config, seed) for seed in dict.fromkeys(seeds or [config.seed])]
    folders = {f"{run.name}/{path.name}": path for run in runs for path in [run_dir(run) / "data", *model_folders(run)]}
    _check_same_data(runs)

    def work(folder: Path, _scratch: Path) -> dict[str, Any]:
        report = evaluate_runs(runs, split)
        write_text(folder / JSON_FILE, render_json(report))
        write_text(folder / MARKDOWN_FILE, render_markdown(report))
        everybody = report.evaluation.everybody
        return {"users": everybody.users} | {model: of[report.evaluation.primary].mean for model, of in everybody.estimates.items()}

    settings = {
        "split": split,
        "seeds": [run.seed for run in runs],
        "ks": list(KS),
        "bootstrap_samples": bootstrap.SAMPLES,
        "sizes": [config.history_length, config.export.exclude_length, config.export.top_k],
        **judged_with(config),
    }
    out_dir = run_dir(config) / ("evaluation" if split == "test" else f"evaluation-{split}")
    with locked_run(run_dir(config)):
        run_stage("evaluation", settings=settings, seed=bootstrap.SEED, inputs=folders, out_dir=out_dir, work=work)
    return out_dir


def evaluate_runs(runs: Sequence[Config], split: Split) -> EvaluationReport:
    """Evaluate all models of all runs, which differ in their seed alone.

    Raises:
        DataError: No user of the split has a history and something new after the cut.
    """
    config, folder = runs[0], run_dir(runs[0]) / "data"
    dataset = load_dataset(folder, len(load_vocabulary(folder / VOCABULARY)))
    spec = spec_of_run(config, dataset.item_count)
    users = held_out(dataset, split, spec)
    if not len(users.users):
        raise DataError(f"{folder}: found no user with anything new in the {split} split, expected at least one to evaluate by")
    counts = dataset.training_counts()
    models, metrics = _metrics_of_models(runs, spec, users, counts)
    roles = _roles(models)
    parts = slices.user_slices(dataset, users, split, user_attributes.load(folder))
    references = [name for name in (roles.undistilled, roles.teacher) if name in models]
    evaluation = compare_metrics(metrics, parts, references=references, ks=cuts(spec.top_k))
    return EvaluationReport(
        run=config.name,
        split=split,
        seeds=tuple(run.seed for run in runs),
        unjudged_users=users.unjudged_users,
        truncated_users=users.truncated_users,
        roles=roles,
        verdicts={run.seed: student_verdict(run)["reason"] for run in runs},
        parameters={name: model.parameters for name, model in models.items()},
        size_bytes={name: model.size_bytes for name, model in models.items()},
        catalogue_popularity=float(counts[1:].mean()),
        truth_popularity=float(popularity(users.truth, counts, users.truth.shape[1]).mean()),
        evaluation=evaluation,
        repeats=spec.repeats,
        teacher_note="" if roles.teacher in models else _teacher_note(runs, users),
        cold=evaluate_cold(runs) if split == "test" else None,
    )


def _metrics_of_models(
    runs: Sequence[Config], spec: RecommenderSpec, users: HeldOut, counts: NDArray[np.int64]
) -> tuple[dict[str, EvaluatedModel], dict[str, UserMetrics]]:
    """The models that all runs have, and their metrics with a row for each run, both by name."""
    metrics: dict[str, list[UserMetrics]] = {}
    models: dict[str, EvaluatedModel] = {}
    for run in runs:
        for model in load_models(run, spec, users):
            items, _ = recommend_all(model.runner, users, _BATCH_SIZE, f"{run.name}: {model.name}")
            metrics.setdefault(model.name, []).append(user_metrics(items, users, counts, cuts(spec.top_k)))
            models.setdefault(model.name, model)
    for name in [name for name, of_seeds in metrics.items() if len(of_seeds) < len(runs)]:
        logger.warning("evaluation: %s is left out: not all runs have it, so it has no mean over seeds", name)
        del metrics[name], models[name]
    return models, {name: join_seeds(of_seeds) for name, of_seeds in metrics.items()}


def _roles(models: dict[str, EvaluatedModel]) -> Roles:
    """Names of the first model of each role; that of the teacher also where it could not be evaluated."""
    first = {model.role: name for name, model in reversed(models.items())}
    return Roles(first.get("teacher", TEACHER), first["undistilled"], first["distilled"])


def _teacher_note(runs: Sequence[Config], users: HeldOut) -> str:
    """Why the teacher of the first run that cannot evaluate its own is left out."""
    return next(note for run in runs if (note := why_teacher_is_left_out(run, users)))


def _check_same_data(runs: Sequence[Config]) -> None:
    """Raise ManifestError unless all runs were made of the same data, because means over seeds need the same users."""
    expected, *others = (run_dir(run) / "data" for run in runs)
    for found in others:
        if read_manifest(found).files != read_manifest(expected).files:
            raise ManifestError(
                f"{found}: found other data than in {expected}; means over seeds need the same users."
                " Run both again with the same data."
            )
