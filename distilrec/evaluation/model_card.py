"""The model card of a trained model, in Hugging Face's format: README.md with YAML front matter.

All figures are measured on the validation split; the test split is reserved for ``distilrec evaluate``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distilrec import __version__
from distilrec.core.manifest import Manifest
from distilrec.core.tables import escape_markdown, markdown_table
from distilrec.evaluation.bootstrap import Estimate
from distilrec.evaluation.ranking import Evaluation
from distilrec.evaluation.report import label, meanings, with_interval
from distilrec.evaluation.slices import MIN_USERS

FILE_NAME = "README.md"

_OWN = "own-interactions"

_SOURCES: dict[str, tuple[str, str | None]] = {
    "ml-100k": ("MovieLens-100K", "https://files.grouplens.org/datasets/movielens/ml-100k-README.txt"),
    _OWN: ("Own interactions", None),
}
"""Title of each data set, and the address of its terms of use."""


@dataclass(frozen=True)
class ModelCard:
    """Content of a model card."""

    title: str
    summary: str
    """Description of the model, in one or two sentences."""
    settings: Mapping[str, Any]
    """JSON-ready settings, the same as in manifest.json."""
    seed: int
    epochs: int | None
    """None for a model that was solved in closed form, not trained."""
    history_length: int
    parameters: int
    data: Manifest
    """Manifest of the data stage."""
    evaluation: Evaluation
    """Evaluation of this model alone, over validation users."""
    truth_popularity: float
    """Mean training count of the right answers."""
    repeats: bool = False
    """Whether seen items may be recommended, and count as right answers."""


def render_card(card: ModelCard) -> str:
    """Render the card as Markdown with front matter; ends with a newline."""
    parts = [f"---\n{_front_matter(card)}\n---", f"# {card.title}", card.summary]
    parts += [_data(card), _settings(card), _metrics(card), _slices(card), _limits(card)]
    return "\n\n".join(parts) + "\n"


def _front_matter(card: ModelCard) -> str:
    """YAML that Hugging Face's own classes write and check."""
    # Here, because the package belongs to the extra [train].
    from huggingface_hub import EvalResult, ModelCardData

    source = card.data.settings["source"] or _OWN
    name, terms = _SOURCES[source]
    results = [
        EvalResult(
            task_type="sequential-recommendation",
            dataset_type=source,
            dataset_name=name,
            dataset_split="validation",
            metric_type=metric,
            metric_name=label(metric),
            metric_value=round(estimate.mean, 4),
        )
        for metric, estimate in _estimates(card).items()
        if not metric.startswith("popularity")
    ]
    data = ModelCardData(
        library_name="distilrec",
        # The terms of the training data also apply to the weights, and only the data's owner knows them.
        license="other",
        license_name="terms-of-the-training-data",
        license_link=terms,
        tags=["recommender-system", "sequential-recommendation", "knowledge-distillation"],
        model_name=card.title,
        eval_results=results,
    )
    return data.to_yaml()


def _estimates(card: ModelCard) -> dict[str, Estimate]:
    (estimates,) = card.evaluation.everybody.estimates.values()
    return estimates


def _data(card: ModelCard) -> str:
    metrics, settings = card.data.metrics, card.data.settings
    name, _ = _SOURCES[settings["source"] or _OWN]
    left = ", ".join(f"{key} = {settings[key]}" for key in ("k_core", "events", "min_rating", "max_users") if settings.get(key))
    return (
        f"## Data\n\n{name}: {metrics['interactions']:,} interactions of {metrics['users']:,} users with {metrics['items']:,} items"
        f" ({left}), of which {metrics['training_interactions']:,} are for training. Split: {settings['split']}, always a cut in a"
        f" user's order of time.\n\nThe item indices are those of the vocabulary with sha256 `{metrics['vocabulary_sha256']}`; the"
        f" interactions have sha256 `{settings['interactions_sha256']}`."
    )


def _settings(card: ModelCard) -> str:
    rows = [[f"`{name}`", f"`{json.dumps(value)}`"] for name, value in sorted(card.settings.items())]
    rows += [["`seed`", f"`{card.seed}`"]]
    made = "solved" if card.epochs is None else f"trained for {card.epochs} epochs, of which the best one's weights are kept,"
    return (
        f"## Settings\n\n{card.parameters:,} parameters at inference, {made} by DistilRec {__version__}. The"
        f" settings are explained in `distilrec/config/`; versions and digests are in `manifest.json`.\n\n"
        f"{markdown_table(['setting', 'value'], rows)}"
    )


def _metrics(card: ModelCard) -> str:
    users = card.evaluation.everybody.users
    rows = [[label(m), with_interval(e)] for m, e in _estimates(card).items() if not m.startswith("popularity")]
    (coverage,) = card.evaluation.coverage.values()
    rows += [[label(cut), f"{share:.4f}"] for cut, share in coverage.items()]
    ranked = "seen items may be recommended and count" if card.repeats else "seen items removed"
    return (
        f"## Metrics\n\nFull ranking of the whole catalogue for {users:,} validation users, {ranked}; in brackets 95 %"
        f" intervals of a bootstrap over users. Coverage is the share of the catalogue that is among the first k of at least one"
        f" user.\n\n{markdown_table(['', 'validation'], rows)}"
    )


def _slices(card: ModelCard) -> str:
    main = card.evaluation.primary
    rows = []
    for name, group in card.evaluation.slices.items():
        (estimates,) = group.estimates.values()
        rows.append([escape_markdown(name), f"{group.users:,}", with_interval(estimates[main])])
    if not rows:
        return f"## Slices\n\nNo slice has {MIN_USERS} users."
    return f"## Slices\n\n{markdown_table(['slice', 'users', label(main)], rows)}\n\n{meanings(card.evaluation)}"


def _limits(card: ModelCard) -> str:
    cut = card.evaluation.primary.partition("@")[2]
    popularity = _estimates(card)[f"popularity@{cut}"].mean
    items = card.data.metrics["items"]
    limits = [
        "Epochs and settings are chosen by these figures, which are optimistic for that reason; `distilrec evaluate` uses the"
        " test split.",
        "Offline figures show which items users chose by themselves, not how they would react to a recommendation.",
        f"The model knows {items:,} items; a newer item is never recommended until the model is trained again.",
        f"The model reads the newest {card.history_length} items of a history.",
        f"Recommended items have {popularity:.1f} training interactions on average, right answers {card.truth_popularity:.1f}."
        " Where the first number is larger, popular items are recommended more often than users want them.",
        f"Slices of fewer than {MIN_USERS} users are not evaluated. Attributes of users are no input of the model.",
        "The model is learned from people's behaviour: the data's terms and these people decide whether the weights may be shared.",
    ]
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)
