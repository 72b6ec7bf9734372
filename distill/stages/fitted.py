"""What all stages share that fit a model by gradient descent: teachers and students alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from distill.data.soft_targets import load_soft_targets
from distill.losses.distillation import Distillation
from distill.losses.negatives import drawn_items
from distill.models.catalogue import Catalogue
from distill.models.encoders import Encoder
from distill.models.item_table import popularity_prior
from distill.models.weights import save_weights
from distill.stages.card import Description, write_card
from distill.stages.text import load_embeddings
from distill.training.callbacks import GiveUp
from distill.training.fit import FitResult, fit
from distill.training.loggers import Logging
from distilrec.config import Config, DistillationConfig, TrainingConfig, judged_with, spec_of_run
from distilrec.config.section import Section, declarations_of
from distilrec.core.manifest import Manifest
from distilrec.core.stage import Inputs, run_stage
from distilrec.data import stage as data_stage
from distilrec.data.dataset import Dataset
from distilrec.evaluation.ranking import PRIMARY_K


@dataclass(frozen=True)
class FittedModel:
    """A model to be fitted, as its settings declare it."""

    section: Section
    """Settings that declare it; their code counts as the stage's own."""
    training: TrainingConfig
    build: Callable[[Catalogue, int], Encoder]
    """Untrained model of a catalogue and a history length."""
    reads_titles: bool
    """Whether its item vectors get title embeddings."""
    summary: str
    """For the model card."""
    recorded: Mapping[str, Any]
    """Settings that the result depends on, JSON-ready."""
    save: Callable[[Encoder, Path], None] = save_weights
    distillation: DistillationConfig | None = None
    """How it learns from soft targets, where the stage has such an input."""


def run_fitted(stage: str, model: FittedModel, config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Fit a model as a stage.

    Args:
        stage: Name of the stage.
        model: The model.
        config: Settings of the run.
        inputs: Folders of data, text, and targets for a model that learns from soft targets.
        out_dir: Folder of the finished stage.
    """
    recorded = {**model.recorded, "history_length": config.history_length, **judged_with(config)}

    def work(folder: Path, scratch: Path) -> dict[str, Any]:
        log = Logging(config.logger, out_dir.parent / "logs", out_dir.name)
        encoder, result = fit_model(model, config, inputs, scratch, log=log)
        model.save(encoder, folder)
        dataset, _ = data_stage.load(inputs["data"])
        description = Description(f"DistilRec {out_dir.name}", model.summary, recorded)
        write_card(folder, encoder, description, config=config, dataset=dataset, data=inputs["data"], epochs=result.epochs)
        return {
            "validation_ndcg@10": result.validation_ndcg,
            "epochs": result.epochs,
            "seconds_an_epoch": round(result.seconds_an_epoch, 3),
            "parameters": encoder.parameter_count(),
            "text_embeddings": _title_embeddings(model, inputs) is not None,
        }

    return run_stage(
        stage,
        settings=recorded,
        seed=config.seed,
        inputs=inputs,
        out_dir=out_dir,
        work=work,
        declarations=[*declarations_of(model.section), model.build],
    )


def fit_model(
    model: FittedModel,
    config: Config,
    inputs: Inputs,
    scratch: Path,
    *,
    log: Logging | None = None,
    give_up: GiveUp | None = None,
) -> tuple[Encoder, FitResult]:
    """Fit a model on finished folders; a checkpoint in ``scratch`` is resumed. Options as in ``distill.training.fit.fit``."""
    dataset, vocabulary = data_stage.load(inputs["data"])
    popularity, embeddings = popularity_prior(dataset), _title_embeddings(model, inputs)
    catalogue = Catalogue(dataset.item_count, vocabulary.titles, embeddings, popularity, config.text)
    # A resumed training gets the weights of its checkpoint; one that starts draws the same ones each time.
    lightning.seed_everything(config.seed, verbose=False)
    encoder = model.build(catalogue, config.history_length)
    result = fit(
        encoder,
        dataset,
        spec_of_run(config, dataset.item_count, PRIMARY_K),
        model.training,
        seed=config.seed,
        scratch=scratch,
        distillation=_distillation(model, encoder, inputs, dataset),
        processes=config.processes,
        log=log,
        give_up=give_up,
    )
    return encoder, result


def _title_embeddings(model: FittedModel, inputs: Inputs) -> Tensor | None:
    return load_embeddings(inputs["text"]) if model.reads_titles else None


def _distillation(model: FittedModel, encoder: Encoder, inputs: Inputs, dataset: Dataset) -> Distillation | None:
    if "targets" not in inputs or model.distillation is None:
        return None
    item_counts = torch.from_numpy(dataset.training_counts())
    targets, size = load_soft_targets(inputs["targets"]), encoder.items.embedding_size
    sampled = model.distillation.temperature == 1  # otherwise a drawn item would need a weight for each temperature
    negatives = drawn_items(model.training.negatives, dataset.item_count) if sampled else None
    return Distillation(model.distillation, targets, item_counts, size, negatives)
