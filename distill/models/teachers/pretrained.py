"""Pretrained text models, which read in both directions (BERT) or forwards alone (GPT): found, loaded, fingerprinted."""

import copy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from distill.models.text import find_text_model
from distilrec.config import TextConfig
from distilrec.core.errors import ConfigError
from distilrec.core.manifest import sha256_of_file, sha256_of_json

_CAUSAL_TOLERANCE = 1e-5

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
        ConfigError: The model is not available, or is no stack of layers over one text.
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
    if body.config.is_encoder_decoder:
        raise ConfigError(
            f"The text model {str(model)!r}: found an encoder with a decoder ({body.config.model_type}), expected one stack of"
            " layers, as BERT or GPT. Name another model."
        )
    special_tokens(tokenizer)
    return _bare(body).train(), tokenizer  # it comes in evaluation mode, which Lightning would keep


class SpecialTokens(NamedTuple):
    """Tokens around a text and after it."""

    start: int
    end: int
    padding: int


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
    """[CLS], [SEP] and [PAD], or what stands for them in a GPT: the tokens that begin and end a text, which may be the same one.

    Raises:
        ConfigError: The tokenizer has neither.
    """
    found = (tokenizer.cls_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.sep_token_id)
    known = [token for token in found if token is not None]
    if not known:
        raise ConfigError(
            f"found a tokenizer ({type(tokenizer).__name__}) without [CLS] and [SEP] and without tokens that begin or end a text,"
            " expected one as BERT or GPT have. Set bos_token and eos_token in tokenizer_config.json."
        )
    end = next((token for token in (tokenizer.sep_token_id, tokenizer.eos_token_id) if token is not None), known[-1])
    return SpecialTokens(known[0], end, end if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


@torch.no_grad()
def is_causal(body: PreTrainedModel) -> bool:
    """Whether the model reads forwards alone: its first state is the same whatever comes after it."""
    training = body.training
    body.train(mode=False)
    states = body(input_ids=torch.tensor([[0, 1], [0, 2]]), attention_mask=torch.ones(2, 2).long()).last_hidden_state
    body.train(training)
    return bool((states[0, 0] - states[1, 0]).abs().max() < _CAUSAL_TOLERANCE)


def longest_text(body: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Most tokens that the model reads."""
    return min(tokenizer.model_max_length, getattr(body.config, "max_position_embeddings", tokenizer.model_max_length))


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
        ConfigError: The model has no stack of layers, as BERT and GPT have.
    """
    return list(_stack_of(body)[1])


def top_norm_of(body: PreTrainedModel) -> nn.Module | None:
    """The normalisation after the highest layer, as GPTs have; BERT has none."""
    parent, _ = _stack_of(body)
    norms = [part for part in parent.children() if "norm" in type(part).__name__.lower()]
    return norms[-1] if norms else None


def _stack_of(body: PreTrainedModel) -> tuple[nn.Module, nn.ModuleList]:
    """The module that holds the list of layers, and the list."""
    count = getattr(body.config, "num_hidden_layers", 0)
    for parent in body.modules():
        for part in parent.children():
            if isinstance(part, nn.ModuleList) and len(part) == count:
                return parent, part
    raise ConfigError(f"found a text model of type {body.config.model_type!r}, expected one with layers as BERT or GPT have")


def _bare(body: PreTrainedModel) -> PreTrainedModel:
    """The model without its pooler, which [CLS] vectors do not pass here, and without a cache, which nothing reads."""
    body.config.use_cache = False
    if getattr(body, "pooler", None) is not None:
        body.pooler = None  # type: ignore[assignment]
    return body
