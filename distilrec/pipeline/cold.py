"""Evaluate the models of finished runs by items that were held out from training, where the data has any."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distilrec.config import Config, spec_of_run
from distilrec.data.cold import cold_held_out, load_cold
from distilrec.data.dataset import HeldOut, load_dataset
from distilrec.data.vocabulary import FILE_NAME, load_vocabulary
from distilrec.evaluation import cold as evaluation
from distilrec.evaluation.cold import ColdEvaluation, ColdMetrics, Scores, cold_metrics, compare_cold
from distilrec.evaluation.ranking import cuts, join_seeds
from distilrec.pipeline.folders import run_dir
from distilrec.pipeline.models import load_models
from distilrec.pipeline.stages import with_sizes_of_data


def evaluate_cold(runs: Sequence[Config]) -> ColdEvaluation | None:
    """All models, over one request for each user who has touched an item that was held out; None where no item was, or no user has.

    Args:
        runs: Runs that differ in their seed alone.
    """
    folder = run_dir(runs[0]) / "data"
    held_out = load_cold(folder)
    if held_out is None:
        return None
    dataset = load_dataset(folder, len(load_vocabulary(folder / FILE_NAME)))
    spec = spec_of_run(with_sizes_of_data(runs[0]), dataset.item_count)
    users = cold_held_out(dataset, held_out, spec)
    if not len(users.users):
        return None
    mask, counts, ks = held_out.item_mask(dataset.item_count), dataset.training_counts(), cuts(spec.top_k)
    found: dict[str, list[ColdMetrics]] = {}
    for run in runs:
        for name, scores in _models(run, users, counts):
            metrics = cold_metrics(scores, users, mask, counts, ks=ks, title=f"{run.name}: cold items, {name}")
            found.setdefault(name, []).append(metrics)
    whole = {name: of_seeds for name, of_seeds in found.items() if len(of_seeds) == len(runs)}
    joined = {
        name: ColdMetrics(*(join_seeds([getattr(one, part) for one in of_seeds]) for part in ("whole", "among")))
        for name, of_seeds in whole.items()
    }
    return compare_cold(joined, int(mask.sum()), ks)


def _models(run: Config, users: HeldOut, counts: NDArray[np.int64]) -> Iterator[tuple[str, Scores]]:
    """Names and scores of the answers without training and of all models."""
    yield evaluation.POPULARITY, evaluation.popularity_scores(counts)
    vectors = _content_vectors(run, run_dir(run))
    if vectors is not None:
        yield evaluation.NEIGHBOURS, evaluation.neighbour_scores(vectors)
    run = with_sizes_of_data(run)
    for model in load_models(run, spec_of_run(run, len(counts) - 1), users):
        yield model.name, model.runner.scores


def _content_vectors(run: Config, folder: Path) -> NDArray[np.float32] | None:
    """Vectors of unit length of what is known of the items, float32 [N + 1, d]: of the titles alone where there are embeddings."""
    from distill.stages.text import load_embeddings, load_known  # here, because it loads PyTorch, which is optional

    titles = load_embeddings(folder / "text")
    if titles is None:
        known = load_known(folder / "data", folder / "text", titles=False, names=run.data.content)
        titles = None if known is None else known.dense
    if titles is None:
        return None
    lengths = titles.norm(dim=1, keepdim=True).clamp(min=1e-6)
    vectors: NDArray[np.float32] = np.zeros((len(titles) + 1, titles.shape[1]), np.float32)
    vectors[1:] = (titles / lengths).numpy()
    return vectors
