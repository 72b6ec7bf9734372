"""Stage ``text``: embeddings of all item titles, made once for all models that take text in."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.models.text import embed_titles, find_text_model
from distilrec.config import Config
from distilrec.core.manifest import Manifest, sha256_of_file
from distilrec.core.stage import Inputs, run_stage
from distilrec.data import stage as data_stage

logger = logging.getLogger(__name__)

_FILE = "embeddings.npy"


def run(config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Write the embeddings, float32 [N, d_text]; nothing without a text model or without titles. Inputs: data."""
    model = find_text_model(config.text)
    if model is not None and not _has_titles(inputs["data"]):
        if config.text.use == "auto":
            model = None
            logger.info("text: no item has a title, so there is nothing to embed")
        else:
            logger.warning(
                'warning: text: no item has a title, so ids are embedded as titles. use = "off" in section [text] does not'
            )

    def work(folder: Path, _scratch: Path) -> dict[str, Any]:
        if model is None:
            return {"text_embeddings": False}
        _, vocabulary = data_stage.load(inputs["data"])
        np.save(folder / _FILE, embed_titles(vocabulary.titles, model).numpy())
        return {"text_embeddings": True}

    settings = {"model_sha256": sha256_of_file(model / "model.safetensors") if model else None}
    return run_stage("text", settings=settings, seed=config.seed, inputs=inputs, out_dir=out_dir, work=work)


def _has_titles(data: Path) -> bool:
    """Whether an item has a title that is not its id, which stands in for a missing one."""
    _, vocabulary = data_stage.load(data)
    return vocabulary.titles != vocabulary.item_ids


def load_embeddings(folder: Path) -> Tensor | None:
    """float32 [N, d_text], or None where there are none."""
    path = folder / _FILE
    return torch.from_numpy(np.load(path)) if path.exists() else None
