"""Stages ``refreshed-text`` and ``refreshed-student``: a trained student with its catalogue as it is now, without training.

Both read the data stage and the models of the run, and ``refreshed-data``. What they write depends on these alone, not on how many
refreshes led there.
"""

import json
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from distill.models.item_content import load_projection
from distill.models.text import embed_titles, find_text_model
from distill.models.weights import WEIGHTS
from distill.stages.text import TITLES_FILE, embed_texts, load_known, picture_embedder, picture_settings, text_file
from distilrec.config import Config
from distilrec.core.errors import ConfigError
from distilrec.core.files import write_text
from distilrec.core.manifest import Manifest, read_manifest, sha256_of_file
from distilrec.core.specs import table_rows
from distilrec.core.stage import Inputs, run_stage
from distilrec.data.refresh import Catalogue, changed_items, load_catalogue

logger = logging.getLogger(__name__)

_TABLE = "items.learned"
_Texts = Sequence[str]


def run_text(config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Embed titles and texts that are new. Inputs: data (refreshed), trained_data, trained_text.

    Raises:
        ConfigError: The text model is another one than in the training.
    """
    trained = read_manifest(inputs["trained_text"]).settings["model_sha256"]
    model = find_text_model(config.text) if trained else None
    found = sha256_of_file(model / "model.safetensors") if model else None
    if found != trained:
        raise ConfigError(
            f"section text: found another model than the run was trained with (sha256 {found}, expected {trained}). Refresh with"
            " the same model, or train again"
        )

    def work(folder: Path, _scratch: Path) -> dict[str, Any]:
        before, now = load_catalogue(inputs["trained_data"]), load_catalogue(inputs["data"])
        embedders: dict[str, Callable[[_Texts], Tensor]] = {}
        if model is not None:
            embedders = {TITLES_FILE: partial(embed_titles, model_folder=model)}
            embedders |= {text_file(name): partial(embed_texts, model_folder=model) for name in _names(now, "texts")}
        embedders |= {text_file(name): picture_embedder(config.image) for name in _names(now, "pictures")}
        embedded = 0
        for file, embed in embedders.items():
            # What an earlier refresh has embedded is only taken from there to save time.
            known = _embeddings(out_dir, file, None) | _embeddings(inputs["trained_text"], file, _texts(before, file))
            embedded += _write(folder, file, _texts(now, file), known, embed)
        return {"text_embeddings": model is not None, "embedded": embedded}

    settings = {"model_sha256": trained} | picture_settings(config, inputs["data"])
    return run_stage("refreshed-text", settings=settings, seed=config.seed, inputs=inputs, out_dir=out_dir, work=work)


def run_student(config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Give the student's item table rows of the items as they are now.

    A former item keeps its row; where its content has changed, the projection of the former content is replaced by that of the
    present one. A new item gets what all unknown items share, and the projection of its content.

    Inputs: data and text (refreshed), trained_data, trained_text, student.

    Raises:
        ConfigError: There are new or changed items, and the student reads nothing of items.
    """
    vectors = config.student
    names = vectors.selected(config.data.content)

    def work(folder: Path, _scratch: Path) -> dict[str, Any]:
        before, now = load_catalogue(inputs["trained_data"]), load_catalogue(inputs["data"])
        state = load_file(inputs["student"] / WEIGHTS)
        changed, count = changed_items(before, now), len(now.vocabulary)
        table = torch.zeros(table_rows(count), state[_TABLE].shape[1])
        known = min(len(state[_TABLE]), len(table))
        table[:known] = state[_TABLE][:known]
        if changed.any() or count > len(before.vocabulary):
            contents = [
                load_known(inputs[data], inputs[text], titles=vectors.text, names=names)
                for data, text in (("trained_data", "trained_text"), ("data", "text"))
            ]
            projection = load_projection(inputs["student"])
            if projection is None:
                raise ConfigError(
                    f"{inputs['student']}: found {count - len(before.vocabulary):,} new and {int(changed.sum()):,} changed items,"
                    " and a student that reads neither titles nor features nor vectors; expected one whose item vectors have"
                    " content. Set text, features or vectors, and train again"
                )
            projected = [projection(content) for content in contents]
            update_rows(table, changed, projected[0], projected[1], projection.unknown)
        save_file(state | {_TABLE: table}, folder / WEIGHTS)
        return {"items": count, "changed": int(changed.sum())}

    settings = {"text": vectors.text, "content": list(names)}
    return run_stage("refreshed-student", settings=settings, seed=config.seed, inputs=inputs, out_dir=out_dir, work=work)


def update_rows(table: Tensor, changed: NDArray[np.bool_], before: Tensor, now: Tensor, unknown: Tensor) -> None:
    """Change a folded item table in place.

    Args:
        table: float32 [rows, 1 + s]: popularity, and the sum of learned part and content.
        changed: Former items whose content is another one, bool [N].
        before: Projected content of former items, float32 [N, s].
        now: Projected content of all items, float32 [M, s].
        unknown: Learned part that items share which nobody has touched, float32 [s].
    """
    former, count = len(before), len(now)
    items = torch.from_numpy(changed.nonzero()[0])
    table[items + 1, 1:] += now[items] - before[items]
    table[former + 1 : count + 1, 0] = 0.0  # no popularity yet
    table[former + 1 : count + 1, 1:] = now[former:] + unknown


def _names(catalogue: Catalogue, what: Literal["texts", "pictures", "embedded"]) -> tuple[str, ...]:
    found: tuple[str, ...] = () if catalogue.schema is None else getattr(catalogue.schema, what)
    return found


def _texts(catalogue: Catalogue, file: str) -> _Texts:
    """The texts whose embeddings are in a file of this name."""
    if file == TITLES_FILE or catalogue.content is None:
        return catalogue.vocabulary.titles
    name = next(name for name in _names(catalogue, "embedded") if text_file(name) == file)
    return tuple(catalogue.content.features[name])


def _embeddings(folder: Path, file: str, texts: _Texts | None) -> dict[str, NDArray[np.float32]]:
    """Embeddings by text; those of an earlier refresh where ``texts`` is None, and nothing where it has none."""
    if not (folder / file).exists():
        return {}
    if texts is None:
        texts = json.loads((folder / f"{file}.json").read_text(encoding="utf-8"))
    return dict(zip(texts, np.load(folder / file), strict=True))


def _write(
    folder: Path,
    file: str,
    texts: _Texts,
    known: dict[str, NDArray[np.float32]],
    embed: Callable[[_Texts], Tensor],
) -> int:
    """Write the embeddings of all texts, and the texts; returns how many had to be embedded."""
    missing = [text for text in dict.fromkeys(texts) if text not in known]
    if missing:
        known = known | dict(zip(missing, embed(missing).numpy(), strict=True))
    np.save(folder / file, np.stack([known[text] for text in texts]))
    write_text(folder / f"{file}.json", json.dumps(list(texts), ensure_ascii=False) + "\n")
    return len(missing)
