"""Stage ``student``: train the small model, with a teacher's soft targets or without."""

from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from distill.data.soft_targets import load_targets
from distill.losses.distillation import Distillation
from distill.losses.stratified import popularity_strata
from distill.models.encoders import Encoder
from distill.models.item_table import popularity_prior
from distill.models.students.build import build_student
from distill.models.weights import save_weights
from distill.stages.card import Description, write_card
from distill.stages.text import load_embeddings
from distill.training.callbacks import GiveUp
from distill.training.fit import FitResult, fit
from distill.training.loggers import Logging
from distilrec.config import Config, StudentConfig
from distilrec.core.manifest import Manifest
from distilrec.core.specs import RecommenderSpec
from distilrec.core.stage import Inputs, run_stage
from distilrec.data import stage as data_stage
from distilrec.data.dataset import Dataset

_STRATA = 10
"""Popularity groups of equal weight, for the loss ``stratified``."""

_SUMMARY = "A small model ({kind}) that recommends the next item of a history in milliseconds."
_DISTILLED = "Learned from what users did next and from a teacher's soft targets (Hinton 2015, arXiv:1503.02531)."
_UNDISTILLED = "Learned without a teacher."


def run(config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Train the student. Inputs: data, text, and targets for a distilled student (without them it is trained alone)."""
    settings = config.student
    if "targets" not in inputs and config.undistilled is not None:
        settings = settings.model_copy(update=config.undistilled.model_dump())
    return train_student("student", settings, config, inputs, out_dir)


def train_student(stage: str, settings: StudentConfig, config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Train a student of these settings as a stage of this name; an assistant is one, too."""
    excluded = set() if "targets" in inputs else {"distillation"}
    recorded = settings.model_dump(mode="json", exclude=excluded) | {"history_length": config.history_length}
    lesson = _DISTILLED if "targets" in inputs else _UNDISTILLED

    def work(folder: Path, scratch: Path) -> dict[str, Any]:
        log = Logging(config.logger, out_dir.parent / "logs", out_dir.name)
        student, result = fit_student(settings, config, inputs, scratch, log=log)
        save_weights(student, folder)
        dataset, _ = data_stage.load(inputs["data"])
        description = Description(f"DistilRec {out_dir.name}", f"{_SUMMARY.format(kind=settings.kind)} {lesson}", recorded)
        write_card(folder, student, description, config=config, dataset=dataset, data=inputs["data"], epochs=result.epochs)
        return {
            "validation_ndcg@10": result.validation_ndcg,
            "epochs": result.epochs,
            "seconds_an_epoch": round(result.seconds_an_epoch, 3),
            "parameters": student.parameter_count(),
            "text_embeddings": _text_embeddings(settings, inputs) is not None,
        }

    return run_stage(stage, settings=recorded, seed=config.seed, inputs=inputs, out_dir=out_dir, work=work)


def fit_student(
    settings: StudentConfig,
    config: Config,
    inputs: Inputs,
    scratch: Path,
    *,
    log: Logging | None = None,
    give_up: GiveUp | None = None,
) -> tuple[Encoder, FitResult]:
    """Train a student of these settings on finished folders, and go on from a checkpoint in ``scratch``. Options as in ``fit``."""
    dataset, _ = data_stage.load(inputs["data"])
    # A resumed training gets the weights of its checkpoint; one that starts draws the same ones each time.
    lightning.seed_everything(config.seed, verbose=False)
    text = _text_embeddings(settings, inputs)
    student = build_student(config, dataset.item_count, popularity_prior(dataset), text=text, settings=settings)
    spec = RecommenderSpec(dataset.item_count, config.history_length, config.export.exclude_length, min(10, dataset.item_count))
    result = fit(
        student,
        dataset,
        spec,
        settings,
        seed=config.seed,
        scratch=scratch,
        distillation=_distillation(settings, inputs, dataset) if "targets" in inputs else None,
        processes=config.processes,
        log=log,
        give_up=give_up,
    )
    return student, result


def _text_embeddings(settings: StudentConfig, inputs: Inputs) -> Tensor | None:
    return load_embeddings(inputs["text"]) if settings.text else None


def _distillation(settings: StudentConfig, inputs: Inputs, dataset: Dataset) -> Distillation:
    strata = popularity_strata(torch.from_numpy(dataset.training_counts()[1:]), _STRATA)
    return Distillation(settings.distillation, load_targets(inputs["targets"]), strata, settings.embedding_size)
