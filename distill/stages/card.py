"""The model card of what a stage has trained: the finished model judged by validation users."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.models.encoders import Scorer
from distill.models.runner import TorchRunner
from distilrec.config import Config, spec_of_run
from distilrec.core.files import write_text
from distilrec.core.manifest import read_manifest
from distilrec.data import attributes
from distilrec.data.dataset import Dataset, held_out
from distilrec.evaluation.metrics import popularity
from distilrec.evaluation.model_card import FILE_NAME, Card, render_card
from distilrec.evaluation.ranking import KS, cuts, evaluate_runners
from distilrec.evaluation.slices import user_slices


@dataclass(frozen=True)
class Description:
    """What a stage says of its model."""

    title: str
    summary: str
    settings: Mapping[str, Any]
    """As in the stage's manifest."""


def write_card(
    folder: Path,
    scorer: Scorer,
    description: Description,
    *,
    config: Config,
    dataset: Dataset,
    data: Path,
    epochs: int | None = None,
) -> None:
    """Judge the trained model and write README.md beside its weights.

    Args:
        folder: the stage's folder, still being written.
        scorer: the model as it was saved.
        description: of the model.
        config: sizes and seed.
        dataset: sequences and splits; the test split is not read.
        data: the data stage's folder.
        epochs: how long it was trained; None for a model that was solved.
    """
    spec = spec_of_run(config, dataset.item_count, KS[-1])
    users = held_out(dataset, "validation", spec)
    counts = dataset.training_counts()
    slices = user_slices(dataset, users, "validation", attributes.load(data))
    runners = {description.title: TorchRunner(scorer, spec)}
    card = Card(
        title=description.title,
        summary=description.summary,
        settings=description.settings,
        seed=config.seed,
        epochs=epochs,
        history_length=config.history_length,
        parameters=scorer.parameter_count(),
        data=read_manifest(data),
        evaluation=evaluate_runners(runners, users, counts, slices, ks=cuts(spec.top_k)),
        truth_popularity=float(popularity(users.truth, counts, users.truth.shape[1]).mean()),
    )
    write_text(folder / FILE_NAME, render_card(card))
