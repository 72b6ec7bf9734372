"""The model card of a stage: the finished model, evaluated over validation users."""

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
from distilrec.evaluation.model_card import FILE_NAME, ModelCard, render_card
from distilrec.evaluation.ranking import KS, cuts, evaluate_runners
from distilrec.evaluation.slices import user_slices


@dataclass(frozen=True)
class Description:
    """A stage's own words about its model."""

    title: str
    summary: str
    settings: Mapping[str, Any]
    """JSON-ready settings, as in the stage's manifest."""


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
    """Evaluate the trained model and write README.md next to its weights.

    Args:
        folder: Folder of the stage, which is still being written.
        scorer: The model as it was saved.
        description: Title, summary and settings of the model.
        config: Settings of the run, read for sizes and seed.
        dataset: Sequences and splits; the test split is not read.
        data: Folder of the data stage.
        epochs: Number of epochs trained; None for a model that was solved in closed form.
    """
    spec = spec_of_run(config, dataset.item_count, KS[-1])
    users = held_out(dataset, "validation", spec)
    counts = dataset.training_counts()
    slices = user_slices(dataset, users, "validation", attributes.load(data))
    runners = {description.title: TorchRunner(scorer, spec)}
    card = ModelCard(
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
        repeats=spec.repeats,
    )
    write_text(folder / FILE_NAME, render_card(card))
