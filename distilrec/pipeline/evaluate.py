"""What ``distilrec evaluate`` does: all hops of a finished run, or of several seeds of it, into one folder of a run."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distilrec.config import Config, spec_of_run, with_seed
from distilrec.core.errors import DataError, ManifestError
from distilrec.core.files import write_text
from distilrec.core.manifest import read_manifest
from distilrec.core.stage import run_stage
from distilrec.data import attributes as user_attributes
from distilrec.data.dataset import Split, held_out, load_dataset
from distilrec.data.vocabulary import FILE_NAME as VOCABULARY
from distilrec.data.vocabulary import load_vocabulary
from distilrec.evaluation import bootstrap, slices
from distilrec.evaluation.metrics import popularity
from distilrec.evaluation.ranking import KS, Judgement, compare, cuts, join_seeds, judge, recommend_all
from distilrec.evaluation.report import JSON_FILE, MARKDOWN_FILE, Report, Roles, render_json, render_markdown
from distilrec.pipeline.models import Hop, hop_folders, load_hops
from distilrec.pipeline.stages import run_dir

logger = logging.getLogger(__name__)

_BATCH_SIZE = 64


def evaluate(config: Config, split: Split, seeds: Sequence[int] = ()) -> Path:
    """Judge all hops and write evaluation.json and evaluation.md; returns their folder, below the run of ``config``.

    Args:
        config: of the run.
        split: "test", or "validation" for decisions that must not see the test split.
        seeds: runs of the same settings to average; none means the run of ``config`` alone.

    Raises:
        ManifestError: a run is not finished or not whole, or the runs were not made of the same data.
        DataError: nobody can be judged.
    """
    runs = [with_seed(config, seed) for seed in dict.fromkeys(seeds or [config.seed])]
    folders = {f"{run.name}/{path.name}": path for run in runs for path in [run_dir(run) / "data", *hop_folders(run)]}
    _check_same_data(runs)

    def work(folder: Path, _scratch: Path) -> dict[str, Any]:
        report = judge_runs(runs, split)
        write_text(folder / JSON_FILE, render_json(report))
        write_text(folder / MARKDOWN_FILE, render_markdown(report))
        everybody = report.evaluation.everybody
        return {"users": everybody.users} | {hop: of[report.evaluation.primary].mean for hop, of in everybody.estimates.items()}

    settings = {
        "split": split,
        "seeds": [run.seed for run in runs],
        "ks": list(KS),
        "bootstrap_samples": bootstrap.SAMPLES,
        "sizes": [config.history_length, config.export.exclude_length, config.export.top_k],
    }
    out_dir = run_dir(config) / ("evaluation" if split == "test" else f"evaluation-{split}")
    run_stage("evaluation", settings=settings, seed=bootstrap.SEED, inputs=folders, out_dir=out_dir, work=work)
    return out_dir


def judge_runs(runs: Sequence[Config], split: Split) -> Report:
    """Judge all hops of all runs, which differ in their seed alone."""
    config = runs[0]
    folder = run_dir(config) / "data"
    dataset = load_dataset(folder, len(load_vocabulary(folder / VOCABULARY)))
    spec = spec_of_run(config, dataset.item_count)
    ks = cuts(spec.top_k)
    users = held_out(dataset, split, spec)
    if not len(users.users):
        raise DataError(f"{folder}: found no user with anything new in the {split} split, expected at least one to be judged by")
    judged: dict[str, list[Judgement]] = {}
    hops: dict[str, Hop] = {}
    for run in runs:
        for hop in load_hops(run, spec):
            items, _ = recommend_all(hop.runner, users, _BATCH_SIZE, f"{run.name}: {hop.name}")
            judged.setdefault(hop.name, []).append(judge(items, users, dataset.training_counts(), ks))
            hops.setdefault(hop.name, hop)
    for name in [name for name, of in judged.items() if len(of) < len(runs)]:
        logger.warning("evaluation: %s is left out: not all runs have it, so it has no mean over seeds", name)
        del judged[name], hops[name]
    roles = _roles(hops)
    parts = slices.user_slices(dataset, users, split, user_attributes.load(folder))
    joined = {name: join_seeds(of) for name, of in judged.items()}
    evaluation = compare(joined, parts, references=(roles.undistilled, roles.teacher), ks=ks)
    counts = dataset.training_counts()
    return Report(
        run=config.name,
        split=split,
        seeds=tuple(run.seed for run in runs),
        unjudged_users=users.unjudged_users,
        truncated_users=users.truncated_users,
        roles=roles,
        parameters={name: hop.parameters for name, hop in hops.items()},
        size_bytes={name: hop.size_bytes for name, hop in hops.items()},
        catalogue_popularity=float(counts[1:].mean()),
        truth_popularity=float(popularity(users.truth, counts, users.truth.shape[1]).mean()),
        evaluation=evaluation,
    )


def _roles(hops: dict[str, Hop]) -> Roles:
    """The first hop of each role."""
    first = {hop.role: name for name, hop in reversed(hops.items())}
    return Roles(first["teacher"], first["undistilled"], first["distilled"])


def _check_same_data(runs: Sequence[Config]) -> None:
    """Seeds can only be averaged over the same users."""
    expected, *others = (run_dir(run) / "data" for run in runs)
    for found in others:
        if read_manifest(found).files != read_manifest(expected).files:
            raise ManifestError(
                f"{found}: found other data than in {expected}; means over seeds need the same users."
                " Run both again with the same data."
            )
