"""Stages ``update-targets``, ``update-student`` and ``update-verdict``: a trained student learns from new events, and is judged."""

import logging
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from distill.data.replay import UpdateWindows, former_share, update_windows
from distill.data.soft_targets import load_soft_targets
from distill.models.encoders import Encoder
from distill.models.growth import TABLE, grown_table, neighbour_rows, trainable_student
from distill.models.item_content import CONTENT_WEIGHTS, load_projection
from distill.models.item_table import popularity_of_counts
from distill.models.runner import TorchRunner
from distill.models.students.build import describe_student, load_student
from distill.models.weights import WEIGHTS, save_weights
from distill.stages.card import Description, write_card
from distill.stages.text import load_known
from distill.training.fit import FitResult
from distill.training.loggers import Logging
from distill.training.update import UpdateMaterial, fit_update, replay_settings, write_replay_targets
from distilrec.config import Config, StudentConfig, judged_with, spec_of_run
from distilrec.config.section import declarations_of
from distilrec.core.manifest import Manifest, read_manifest
from distilrec.core.stage import Inputs, run_stage
from distilrec.data import attributes
from distilrec.data import stage as data_stage
from distilrec.data.dataset import Dataset, HeldOut, held_out, requests
from distilrec.data.update_stage import EARLIER_FILE, NEW_START_FILE, REPLAY_FILE
from distilrec.data.update_state import load_exemplars, load_requests, load_state
from distilrec.evaluation.forgetting import UpdateComparison, compare_update, judge_update
from distilrec.evaluation.ranking import PRIMARY_K, evaluate_runners
from distilrec.evaluation.slices import MIN_USERS, Slice, attribute_slices, history_slices, truth_slices

logger = logging.getLogger(__name__)


def updated_student(config: Config) -> StudentConfig:
    """The student's settings, with those of section ``update`` in their place."""
    given = config.update.model_dump(include={"epochs", "patience", "learning_rate", "dropout"}, exclude_none=True)
    return config.student.model_copy(update=given)


def run_targets(config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Write the former student's soft targets on the replay. Inputs: data, former (student)."""
    settings = replay_settings(config.targets)

    def work(folder: Path, _scratch: Path) -> dict[str, Any]:
        dataset, _ = data_stage.load(inputs["data"])
        former = load_student(config, inputs["former"], read_manifest(inputs["data"]).metrics["former_items"])
        prefixes = write_replay_targets(former, _windows(config, inputs["data"], dataset), folder, settings)
        return {"prefixes": prefixes}

    recorded = {"top_n": settings.top_n, "temperatures": list(settings.temperatures), "history_length": config.history_length}
    return run_stage(
        "update-targets",
        settings=recorded,
        seed=config.seed,
        inputs=inputs,
        out_dir=out_dir,
        work=work,
        declarations=declarations_of(config.student),
    )


def _windows(config: Config, data: Path, dataset: Dataset) -> UpdateWindows:
    return update_windows(dataset, np.load(data / NEW_START_FILE), load_exemplars(data / REPLAY_FILE), config.history_length)


def run_student(config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Train the student further.

    Inputs: data, text, former (student), projection (folder of the student whose content projection is still right), and targets
    where the former student teaches.
    """
    settings = updated_student(config)
    recorded = settings.recorded(distilled=False) | {"history_length": config.history_length, **judged_with(config)}
    recorded |= {"former_weight": config.update.former_weight}

    def work(folder: Path, scratch: Path) -> dict[str, Any]:
        dataset, _ = data_stage.load(inputs["data"])
        material = _material(config, inputs, dataset)
        lightning.seed_everything(config.seed, verbose=False)
        start, popularity = _start(config, inputs, dataset), _popularity(config, material.counts)
        encoder = trainable_student(settings, config.history_length, start, dataset.item_count, popularity)
        log = Logging(config.logger, out_dir.parent / "logs", out_dir.name)
        spec = spec_of_run(config, dataset.item_count, PRIMARY_K)
        result = fit_update(encoder, material, spec, settings, seed=config.seed, scratch=scratch, log=log)
        _save(encoder, inputs["projection"], folder)
        summary = describe_student(settings, distilled=True) + " Updated with new events, and a replay of earlier ones."
        description = Description("DistilRec student", summary, recorded)
        write_card(folder, encoder, description, config=config, dataset=dataset, data=inputs["data"], epochs=result.epochs)
        return _metrics(result, material)

    options: dict[str, Any] = {"work": work, "declarations": declarations_of(config.student)}
    return run_stage("update-student", settings=recorded, seed=config.seed, inputs=inputs, out_dir=out_dir, **options)


def _save(encoder: Encoder, projection: Path, folder: Path) -> None:
    """Write the weights, and the projection of the items' content, which this training does not change."""
    save_weights(encoder, folder)
    if (projection / CONTENT_WEIGHTS).exists():
        shutil.copyfile(projection / CONTENT_WEIGHTS, folder / CONTENT_WEIGHTS)


def _metrics(result: FitResult, material: UpdateMaterial) -> dict[str, Any]:
    return {
        "validation_ndcg@10": result.validation_ndcg,
        "epochs": result.epochs,
        "seconds_an_epoch": round(result.seconds_an_epoch, 3),
        "new_predictions": material.windows.new,
        "replayed_predictions": material.windows.replayed,
        "soft_weight": round(material.weight, 4),
    }


def _material(config: Config, inputs: Inputs, dataset: Dataset) -> UpdateMaterial:
    windows = _windows(config, inputs["data"], dataset)
    former_items = read_manifest(inputs["data"]).metrics["former_items"]
    weight = config.update.former_weight * former_share(former_items, dataset.item_count, windows.replayed, windows.new)
    targets = load_soft_targets(inputs["targets"]) if "targets" in inputs else None
    return UpdateMaterial(dataset, windows, load_state(inputs["data"]).counts, targets, weight)


def _popularity(config: Config, counts: NDArray[np.int64]) -> Tensor:
    none_yet = config.student.dropout_of_ids(cold_items=config.data.has_cold_items) > 0
    return popularity_of_counts(torch.from_numpy(counts), none_yet=none_yet)


def _start(config: Config, inputs: Inputs, dataset: Dataset) -> dict[str, Tensor]:
    """The former student's weights, with a row for each new item: of its content, or else of the items next to it."""
    state = load_file(inputs["former"] / WEIGHTS)
    former_items = read_manifest(inputs["data"]).metrics["former_items"]
    projection = load_projection(inputs["projection"])
    if projection is None:
        rows = neighbour_rows(state[TABLE], former_items, dataset)
    else:
        names = config.student.selected(config.data.content)
        known = load_known(inputs["data"], inputs["text"], titles=config.student.text, names=names)
        rows = projection(known)[former_items:] + projection.unknown
    return state | {TABLE: grown_table(state[TABLE], former_items, rows)}


def run_verdict(config: Config, inputs: Inputs, out_dir: Path, *, ships: str) -> Manifest:
    """Judge the update against the former student. Inputs: data, former (student), student.

    As in the stage ``student-verdict``, the folder holds only a manifest; ``update`` in its metrics says whether it is taken.
    ``ships`` is which of the two trained students the line goes back to.
    """

    def work(_folder: Path, _scratch: Path) -> dict[str, Any]:
        dataset, _ = data_stage.load(inputs["data"])
        spec = spec_of_run(config, dataset.item_count, PRIMARY_K)
        users = held_out(dataset, "test", spec)
        lengths = dataset.test_start[users.users]
        of_users = [
            part for name, values in attributes.load(inputs["data"]).items() for part in attribute_slices(name, values, users.users)
        ]
        newest = _compare(config, inputs, users, history_slices(lengths) + of_users)
        before = _earlier(config, inputs["data"], dataset.item_count)
        earlier = None if before is None else _compare(config, inputs, before, history_slices((before.history != 0).sum(axis=1)))
        verdict = judge_update(newest, earlier, config.update.max_loss)
        logger.log(logging.INFO if verdict.taken else logging.WARNING, "update-verdict: %s", verdict.reason)
        compared = {name: None if one is None else asdict(one) for name, one in (("newest", newest), ("earlier", earlier))}
        return {
            "ships": ships,
            "ranks_worse": not verdict.taken,
            "reason": verdict.reason,
            "update": {"taken": verdict.taken, "reason": verdict.reason, "max_loss": config.update.max_loss} | compared,
        }

    sizes = {"history_length": config.history_length, "exclude_length": config.export.exclude_length, **judged_with(config)}
    return run_stage(
        "update-verdict",
        settings={"max_loss": config.update.max_loss} | sizes,
        seed=config.seed,
        inputs=inputs,
        out_dir=out_dir,
        work=work,
        declarations=declarations_of(config.student),
    )


def _earlier(config: Config, data: Path, item_count: int) -> HeldOut | None:
    """Earlier held-out users; None where there is none."""
    kept = load_requests(data / EARLIER_FILE)
    if not len(kept.update):
        return None
    spec = spec_of_run(config, item_count, PRIMARY_K)
    history, exclude = requests([kept.histories[row] for row in range(len(kept.update))], spec)
    truth = np.zeros((len(history), int(kept.truths.lengths.max())), np.int32)
    for row in range(len(history)):
        truth[row, : kept.truths.lengths[row]] = kept.truths[row]
    choices = {"repeats": np.ones((len(history), 1), np.int32)} if spec.repeats else {}
    return HeldOut(np.arange(len(history)), history, exclude, truth, 0, 0, choices)


def _compare(config: Config, inputs: Inputs, users: HeldOut, slices: list[Slice]) -> UpdateComparison:
    """Rank the catalogue for users with both students; the former one knows the former items alone."""
    former_items, counts = read_manifest(inputs["data"]).metrics["former_items"], load_state(inputs["data"]).counts
    sizes = {"former": former_items, "updated": len(counts) - 1}
    folders = {"former": inputs["former"], "updated": inputs["student"]}
    runners = {
        name: TorchRunner(load_student(config, folders[name], size), spec_of_run(config, size, PRIMARY_K))
        for name, size in sizes.items()
    }
    groups = [part for part in truth_slices(users.truth, counts) + slices if part.users.sum() >= MIN_USERS and not part.users.all()]
    return compare_update(evaluate_runners(runners, users, counts, groups, references=["former"], ks=[PRIMARY_K]))
