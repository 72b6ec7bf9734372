"""What all stages share that fit a model by gradient descent: teachers and students alike."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import torch

from distill.data.soft_targets import load_soft_targets
from distill.losses.distillation import Distillation
from distill.losses.negatives import drawn_items
from distill.models.catalogue import Catalogue
from distill.models.encoders import Encoder
from distill.models.item_table import popularity_prior
from distill.models.runner import TorchRunner
from distill.models.weights import save_weights
from distill.stages.card import Description, write_card
from distill.stages.text import load_embeddings, load_known
from distill.training.callbacks import GiveUp
from distill.training.domain import DomainWeights, domain_weights
from distill.training.fit import FitResult, fit
from distill.training.loggers import Logging
from distill.training.unknown_share import calibrate_unknown
from distilrec.config import Config, DistillationConfig, DomainConfig, ItemVectorConfig, TrainingConfig, judged_with, spec_of_run
from distilrec.config.section import Section, declarations_of
from distilrec.core.errors import ConfigError
from distilrec.core.manifest import Manifest
from distilrec.core.specs import RecommenderSpec
from distilrec.core.stage import Inputs, run_stage
from distilrec.data import attributes
from distilrec.data import stage as data_stage
from distilrec.data.dataset import Dataset, held_out
from distilrec.data.vocabulary import Vocabulary
from distilrec.evaluation.ranking import PRIMARY_K, ranking_metrics, recommend_all

logger = logging.getLogger(__name__)

_BATCH_SIZE = 64


@dataclass(frozen=True)
class FittedModel:
    """A model to be fitted, as its settings declare it."""

    section: Section
    """Settings that declare it; their code counts as the stage's own."""
    training: TrainingConfig
    build: Callable[[Catalogue, int], Encoder]
    """Untrained model of a catalogue and a history length."""
    item_vectors: ItemVectorConfig
    """What its item vectors are made of."""
    summary: str
    """For the model card."""
    recorded: Mapping[str, Any]
    """Settings that the result depends on, JSON-ready."""
    save: Callable[[Encoder, Path], None] = save_weights
    domain: DomainConfig | None = None
    """Weights of training examples by where their users come from."""
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
            "text_embeddings": model.item_vectors.text and load_embeddings(inputs["text"]) is not None,
            **_content_facts(model, config),
            **({} if (weights := _domain_weights(model, config, inputs, dataset)) is None else {"domain": weights.facts()}),
        }

    return run_stage(
        stage,
        settings=recorded,
        seed=config.seed,
        inputs=inputs,
        out_dir=out_dir,
        work=work,
        declarations=[*declarations_of(model.section), model.build],
        shared=True,
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
    catalogue = _catalogue(model, config, inputs, dataset, vocabulary)
    weights = _domain_weights(model, config, inputs, dataset)
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
        example_weights=None if weights is None else weights.of_examples(dataset),
        processes=config.processes,
        log=log,
        give_up=give_up,
    )
    share = model.item_vectors.share_of_unknown()
    if encoder.items.unknown is not None and share:
        spec = spec_of_run(config, dataset.item_count, PRIMARY_K)
        shift = calibrate_unknown(encoder, dataset, spec, share, config.seed)
        logger.info("items that nobody has touched: %+.2f to their scores, for %.0f %% of the first ten ranks", shift, 100 * share)
        result = replace(result, validation_ndcg=_validation_ndcg(encoder, dataset, spec))
    return encoder, result


@torch.inference_mode()
def _validation_ndcg(encoder: Encoder, dataset: Dataset, spec: RecommenderSpec) -> float:
    users = held_out(dataset, "validation", spec)
    with encoder.items.kept():
        items, _ = recommend_all(TorchRunner(encoder, spec), users, _BATCH_SIZE, "validation")
    return ranking_metrics(items, users)[f"ndcg@{PRIMARY_K}"]


def _domain_weights(model: FittedModel, config: Config, inputs: Inputs, dataset: Dataset) -> DomainWeights | None:
    if model.domain is None:
        return None
    weights = domain_weights(dataset, attributes.load(inputs["data"]), model.domain, config.seed)
    logger.info("domain %s: %s", model.domain.target, ", ".join(f"{name} {value:g}" for name, value in weights.facts().items()))
    return weights


def _catalogue(model: FittedModel, config: Config, inputs: Inputs, dataset: Dataset, vocabulary: Vocabulary) -> Catalogue:
    """The items, with what this model reads of them.

    Raises:
        ConfigError: Items that nobody has touched are to be scored, and the model reads nothing of them.
    """
    vectors = model.item_vectors
    dropout = vectors.dropout_of_ids(cold_items=config.data.has_cold_items)
    content = load_known(inputs["data"], inputs["text"], titles=vectors.text, names=vectors.selected(config.data.content))
    if dropout and content is None:
        raise ConfigError(
            f"found a model ({model.section.__class__.__name__}) whose items are sometimes known by their content alone, and no"
            " content: neither titles (section text) nor features and vectors (section data). Give it content, or set id_dropout"
            " = 0, untouched = false and cold_fraction = 0"
        )
    touched = torch.from_numpy(dataset.training_counts()[1:] > 0) if dropout else None
    popularity = popularity_prior(dataset, none_yet=dropout > 0)
    return Catalogue(dataset.item_count, vocabulary.titles, content, popularity, config.text, dropout, touched)


def _content_facts(model: FittedModel, config: Config) -> dict[str, Any]:
    """Names of the content that the model reads, for its manifest; nothing where the data has none."""
    dropout = model.item_vectors.dropout_of_ids(cold_items=config.data.has_cold_items)
    names = model.item_vectors.selected(config.data.content)
    return ({"content": list(names)} if names else {}) | ({"id_dropout": dropout} if dropout else {})


def _distillation(model: FittedModel, encoder: Encoder, inputs: Inputs, dataset: Dataset) -> Distillation | None:
    if "targets" not in inputs or model.distillation is None:
        return None
    item_counts = torch.from_numpy(dataset.training_counts())
    targets, size = load_soft_targets(inputs["targets"]), encoder.items.embedding_size
    sampled = model.distillation.temperature == 1  # otherwise a drawn item would need a weight for each temperature
    negatives = drawn_items(model.training.negatives, dataset.item_count) if sampled else None
    return Distillation(model.distillation, targets, item_counts, size, negatives)
