"""Stages ``targets-<name>``: write a teacher's soft targets of all training prefixes, and mix those of several teachers."""

import logging
from pathlib import Path
from typing import Any

from distill.data.mixture_weights import read_weights
from distill.data.soft_targets import load_soft_targets
from distill.models.teachers.external import ExternalTeacher
from distill.models.teachers.load import load_teacher
from distill.training.listed_targets import write_listed_targets
from distill.training.teacher_inference import mix_soft_targets, write_soft_targets
from distilrec.config import Config
from distilrec.config.section import declarations_of
from distilrec.core.manifest import Manifest
from distilrec.core.stage import Inputs, run_stage
from distilrec.data import stage as data_stage

logger = logging.getLogger(__name__)


def run(config: Config, inputs: Inputs, out_dir: Path, *, name: str) -> Manifest:
    """Write the soft targets of the teacher of this name. Inputs: data, teacher."""
    settings = config.teachers[name]

    def work(folder: Path, _scratch: Path) -> dict[str, Any]:
        dataset, _ = data_stage.load(inputs["data"])
        teacher = load_teacher(config, name, inputs["teacher"], dataset.item_count)
        options: dict[str, Any] = {"history_length": config.history_length, "settings": config.soft_targets, "seed": config.seed}
        if isinstance(teacher, ExternalTeacher):
            prefixes = write_listed_targets(teacher, dataset, folder, **options)
        else:
            prefixes = write_soft_targets(teacher, dataset, folder, **options, newest=settings.newest_scored)
        return _size(folder, prefixes)

    # Which prefixes a slow teacher scores is not in its own manifest.
    recorded = _recorded(config) | settings.model_dump(mode="json", include={"asked_prefixes_per_window"})
    return run_stage(
        "targets",
        settings=recorded,
        seed=config.seed,
        inputs=inputs,
        out_dir=out_dir,
        work=work,
        declarations=declarations_of(settings),
    )


def run_mix(config: Config, inputs: Inputs, out_dir: Path, *, weights: dict[str, float] | None = None) -> Manifest:
    """Mix the soft targets of several teachers. Inputs: data, each teacher's targets by its name, and verdict without weights."""

    def work(folder: Path, _scratch: Path) -> dict[str, Any]:
        dataset, _ = data_stage.load(inputs["data"])
        found = read_weights(inputs["verdict"]) if weights is None else weights
        caches, shares = [load_soft_targets(inputs[name]) for name in found], list(found.values())
        sharpness = sum(shares) if weights is None else 1.0
        return _size(folder, mix_soft_targets(caches, shares, dataset.item_count, folder, config.soft_targets, sharpness=sharpness))

    settings = _recorded(config) | {"weights": weights}
    return run_stage("targets", settings=settings, seed=config.seed, inputs=inputs, out_dir=out_dir, work=work)


def _recorded(config: Config) -> dict[str, Any]:
    excluded = {"batch_size", "weights"}
    return config.soft_targets.model_dump(mode="json", exclude=excluded) | {"history_length": config.history_length}


def _size(folder: Path, prefixes: int) -> dict[str, Any]:
    size_bytes = sum(path.stat().st_size for path in folder.glob("*.npy"))
    gb_a_million = round(size_bytes / prefixes / 1e3, 3)
    logger.info("targets: %s prefixes, %s GB a million on disk", f"{prefixes:,}", gb_a_million)
    return {"prefixes": prefixes, "size_bytes": size_bytes, "gb_a_million_prefixes": gb_a_million}
