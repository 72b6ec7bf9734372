"""Pretrained text models of the BERT family: found, loaded, fingerprinted."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from distill.models.text import find_text_model
from distilrec.config import TextConfig
from distilrec.core.errors import ConfigError
from distilrec.core.manifest import sha256_of_file, sha256_of_json

_DIGESTED = {".safetensors", ".bin", ".json", ".txt", ".model"}


def find_model(model: str | Path | None, titles: TextConfig) -> Path | str:
    """A folder, or a name on the Hugging Face hub.

    Args:
        model: Setting of the teacher; None for the model that embeds titles.
        titles: Section ``text``.

    Raises:
        MissingExtraError: No model is named and none is installed.
    """
    if model is None:
        found = find_text_model(titles.model_copy(update={"use": "on"}))
        assert found is not None
        return found
    return Path(model) if Path(model).is_dir() else str(model)


def model_identity(model: Path | str, revision: str) -> dict[str, str]:
    """What stands for the model in a fingerprint: the sha256 of its files (weights and tokenizer), or name and revision."""
    if isinstance(model, str):
        return {"name": model, "revision": revision}
    digests = {path.name: sha256_of_file(path) for path in sorted(model.iterdir()) if path.suffix in _DIGESTED}
    return {"sha256": sha256_of_json(digests)}


def load_pretrained(model: Path | str, revision: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Body and tokenizer, from a folder or, by name, from the hub (or its cache).

    Raises:
        ConfigError: The model is not available, or cannot be fine-tuned layer by layer.
    """
    where: dict[str, Any] = {"local_files_only": True} if isinstance(model, Path) else {"revision": revision}
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, **where)
        body = AutoModel.from_pretrained(model, dtype=torch.float32, **where)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        tried = f"the folder {model}" if isinstance(model, Path) else f"no folder {model!r} here, so the Hugging Face hub"
        raise ConfigError(
            f"The text model {str(model)!r} cannot be loaded. Tried: {tried}; found: {reason} Expected: a folder with config.json,"
            " model.safetensors and a tokenizer, or the name of such a model on the hub and a network that reaches it. Name a"
            " folder, or leave 'model' out for the one that comes with the extra [text]."
        ) from error
    if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
        raise ConfigError(f"The text model {str(model)!r}: found a tokenizer without [CLS] and [SEP], expected a model as BERT")
    return _bare(body).train(), tokenizer  # it comes in evaluation mode, which Lightning would keep


def save_form(body: PreTrainedModel, folder: Path) -> None:
    """Write a ``config.json`` from which ``load_body`` makes a body of this form."""
    form = copy.deepcopy(body.config)
    form.name_or_path = ""  # a path of this machine
    form.save_pretrained(folder)


def load_body(folder: Path) -> PreTrainedModel:
    """An untrained body of the form that ``save_form`` wrote."""
    form = AutoConfig.from_pretrained(folder, local_files_only=True)
    return _bare(AutoModel.from_config(form))  # type: ignore[no-untyped-call]


def layers_of(body: PreTrainedModel) -> list[nn.Module]:
    """The transformer's layers, from the input upwards.

    Raises:
        ConfigError: the model is not built as those of the BERT family are.
    """
    count = getattr(body.config, "num_hidden_layers", 0)
    stack = next((part for part in body.modules() if isinstance(part, nn.ModuleList) and len(part) == count), None)
    if stack is None:
        raise ConfigError(f"found a text model of type {body.config.model_type!r}, expected one with layers as BERT has")
    return list(stack)


def _bare(body: PreTrainedModel) -> PreTrainedModel:
    """The model without its pooler, which [CLS] vectors do not pass here."""
    if getattr(body, "pooler", None) is not None:
        body.pooler = None  # type: ignore[assignment]
    return body
