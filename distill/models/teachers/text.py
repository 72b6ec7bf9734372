"""Teacher kind ``text``: a pretrained BERT (Devlin et al. 2019, arXiv:1810.04805) reads titles and is fine-tuned."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill.data.sequences import Batch
from distill.models.catalogue import Catalogue
from distill.models.encoders import Encoder
from distill.models.item_table import ItemTable, is_item
from distill.models.teachers._base import NeuralTeacherConfig
from distill.models.teachers.prefix_encoder import PrefixEncoder, draw_positions
from distill.models.teachers.pretrained import find_model, layers_of, load_body, load_pretrained, model_identity, save_form
from distill.models.weights import WEIGHTS
from distilrec.config import TextConfig
from distilrec.config.section import Fraction, Positive
from distilrec.core.errors import ConfigError
from distilrec.core.specs import table_rows

_SEPARATOR = " | "
_PREFIXES_AT_ONCE = 128
_NO_TOKEN = -1
_POPULARITY = 10.0
"""First coordinate of a user vector with which scores are standardised log counts (``popularity_prior`` has a tenth of them)."""


class TextTeacherConfig(NeuralTeacherConfig):
    """A pretrained BERT that reads the titles of a history as text, and is fine-tuned."""

    kind: Literal["text"] = "text"
    summary = "A pretrained BERT, fine-tuned, that reads a history as titles. The student learns from it; it is not served."
    model: str | Path | None = None
    """Folder of a model of the BERT family and its tokenizer, or its name on the Hugging Face hub; None for the one that embeds
    titles (section ``text``)."""
    revision: str = "main"
    """Branch, tag or commit of a model on the hub."""
    freeze: Literal["none", "gradual"] | Annotated[int, Field(ge=0, strict=True)] = "none"
    """Frozen part of the model: none, the embeddings and this number of lower layers, or ``gradual``: at first all layers, then
    one layer fewer at a time, from the top (Howard and Ruder 2018)."""
    unfreeze_every: Positive = 1
    """``gradual``: epochs until one more layer learns."""
    body_learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    """Learning rate of the pretrained model; ``learning_rate`` is that of the head and the item vectors."""
    max_titles: Positive = 20
    """Newest titles of a history that are read."""
    max_tokens: Annotated[int, Field(ge=3)] = 256
    """Tokens that are read, the two at the ends included; the oldest are left out."""
    prefixes_per_window: Positive = 4
    """Prefixes of each window that a step learns from, drawn again each epoch."""
    embedding_size: Annotated[int, Field(ge=2)] = 128
    dropout: Fraction = 0.1
    epochs: Positive = 10
    batch_size: Positive = 16
    weight_decay: Annotated[float, Field(ge=0)] = 0.01

    def recorded(self, text: TextConfig) -> dict[str, Any]:
        """See ``TeacherConfig``; digests stand for the pretrained model."""
        model = find_model(self.model, text)
        settings = super().recorded(text) | {"model": model_identity(model, self.revision)}
        del settings["revision"]
        return settings

    def build(self, catalogue: Catalogue, history_length: int) -> "TextTeacher":  # noqa: ARG002 - ``max_titles`` limits it
        """See ``FittedTeacherConfig``.

        Raises:
            ConfigError: The pretrained model is not available, or is smaller than the settings say.
        """
        model = find_model(self.model, catalogue.text)
        body, tokenizer = load_pretrained(model, self.revision)
        longest, layers = min(tokenizer.model_max_length, body.config.max_position_embeddings), len(layers_of(body))
        if self.max_tokens > longest:
            raise ConfigError(f"max_tokens of a text teacher: found {self.max_tokens}, expected at most {longest} with {model}")
        if isinstance(self.freeze, int) and self.freeze > layers:
            raise ConfigError(f"freeze of a text teacher: found {self.freeze}, expected at most {layers} layers with {model}")
        items = catalogue.item_table(self.embedding_size)
        return TextTeacher(items, body, tokenize_titles(catalogue.titles, tokenizer, self.max_tokens), self)

    def save(self, teacher: Encoder, folder: Path) -> None:
        """See ``FittedTeacherConfig``; with the form of the pretrained model."""
        assert isinstance(teacher, TextTeacher)
        super().save(teacher, folder)
        save_form(teacher.body, folder)

    def load(self, folder: Path, item_count: int, history_length: int) -> "TextTeacher":  # noqa: ARG002
        """See ``TeacherConfig``; the pretrained model is not needed any more."""
        state = load_file(folder / WEIGHTS)
        tokens = TitleTokens(state["titles"], state["frame"])
        teacher = TextTeacher(ItemTable(item_count, self.embedding_size), load_body(folder), tokens, self)
        teacher.load_state_dict(state)
        return teacher.eval()


class TitleTokens(NamedTuple):
    """All titles as tokens, made once, so that inference needs no tokenizer."""

    titles: Tensor
    """int32 [rows, S + W]: the S tokens of the separator and up to W of the title, then -1; rows without an item hold -1."""
    frame: Tensor
    """int32 [4]: [CLS], [SEP], [PAD] and S."""


def tokenize_titles(titles: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> TitleTokens:
    """Tokens of the titles of items 1..N; of each title at most what a text of ``max_tokens`` can hold."""
    separator = tokenizer(_SEPARATOR, add_special_tokens=False)["input_ids"]
    found = tokenizer(list(titles), add_special_tokens=False, truncation=True, max_length=max_tokens - 2)["input_ids"]
    table = torch.full((table_rows(len(titles)), len(separator) + max(map(len, found))), _NO_TOKEN, dtype=torch.int32)
    for row, tokens in enumerate(found, start=1):
        table[row, : len(separator) + len(tokens)] = torch.tensor([*separator, *tokens], dtype=torch.int32)
    special = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id or 0, len(separator))
    return TitleTokens(table, torch.tensor(special, dtype=torch.int32))


class TextTeacher(PrefixEncoder):
    """``[CLS] newest title | the one before | ... [SEP]`` -> BERT -> [CLS] vector -> linear -> product with the item vectors.

    The newest title comes first, so that it always has the same position and truncation removes the oldest.

    Args:
        items: the item table; only candidates come from it.
        body: a pretrained model of the BERT family.
        tokens: of all titles.
        settings: Sizes, dropout, and which layers of the body are trained when.
    """

    titles: Tensor
    frame: Tensor

    def __init__(self, items: ItemTable, body: PreTrainedModel, tokens: TitleTokens, settings: TextTeacherConfig) -> None:
        super().__init__(items, _PREFIXES_AT_ONCE)
        self.body = body
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(body.config.hidden_size, items.embedding_size)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        # Starts near the popularity ranking, so that the few steps of fine-tuning only learn the differences from it.
        nn.init.constant_(self.head.bias[:1], _POPULARITY)
        self.settings = settings
        self.freezes_midway = settings.freeze == "gradual"
        self.register_buffer("titles", tokens.titles)
        self.register_buffer("frame", tokens.frame)
        if isinstance(settings.freeze, int):
            _freeze(body, settings.freeze)

    def encode_last(self, history: Tensor) -> Tensor:
        """int64 [B, L], left-padded -> float32 [B, d]; popularity for an empty history."""
        return self._encode(history, *self.text_of(history))

    def encode_some(self, history: Tensor) -> Tensor:
        """See ``PrefixEncoder``; cut to the longest text."""
        tokens, present = self.text_of(history)
        longest = int(present.sum(dim=1).max())
        return self._encode(history, tokens[:, :longest], present[:, :longest])

    def _encode(self, history: Tensor, tokens: Tensor, present: Tensor) -> Tensor:
        states = self.body(input_ids=tokens, attention_mask=present.long()).last_hidden_state
        vectors: Tensor = self.head(self.dropout(states[:, 0]))
        return self.popular_if_empty(vectors, is_item(history, self.item_count))

    def text_of(self, history: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of the newest titles, and a mask without padding. int64 [B, T], left-padded -> int64, bool [B, max_tokens]."""
        cls, sep, pad, separator = self.frame.long().unbind()
        tokens = self.titles[self._newest_items(history)].flatten(1).long()  # (B, titles * width)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        present = (tokens != _NO_TOKEN) & (places >= separator)  # no separator before the first title
        size = self.settings.max_tokens
        column = torch.arange(size, device=tokens.device)
        # Tokens move to the front; padding and tokens beyond the limit go to the last column, which [SEP] or [PAD] overwrites.
        columns = torch.where(present, present.cumsum(dim=1), size).clamp(max=size - 1)
        text = torch.where(column == 0, cls, pad).expand(history.shape[0], -1).scatter(1, columns, tokens)
        end = present.long().sum(dim=1, keepdim=True).clamp(max=size - 2) + 1
        text = torch.where(column < end, text, torch.where(column == end, sep, pad))
        return text, column <= end

    def _newest_items(self, history: Tensor) -> Tensor:
        """int64 [B, T] -> int64 [B, max_titles], newest first, then padding."""
        present = is_item(history, self.item_count)
        age = present.long().sum(dim=1, keepdim=True) - present.cumsum(dim=1)
        size = min(self.settings.max_titles, history.shape[1])
        columns = torch.where(present, age, size).clamp(max=size)
        return history.new_zeros(history.shape[0], size + 1).scatter(1, columns, history)[:, :size]

    def training_examples(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """A few prefixes of each window, drawn again each time, because one pass of BERT for each prefix is the main cost."""
        known = torch.zeros_like(batch.valid).masked_scatter(batch.valid, batch.targets > 0)
        drawn = draw_positions(known, self.settings.prefixes_per_window)
        drawn[0, 0] |= ~drawn.any()  # at least one: every process must take part in every step
        among = drawn[batch.valid]
        return self.encode_prefixes(batch.history, drawn), batch.targets[among], batch.prefixes[among]

    def start_epoch(self, epoch: int) -> None:
        """Gradual unfreezing (Howard and Ruder 2018, arXiv:1801.06146): first the head alone, then one more layer at a time."""
        if self.settings.freeze == "gradual":
            frozen = len(layers_of(self.body)) - epoch // self.settings.unfreeze_every
            # The embeddings come after the lowest layer.
            _freeze(self.body, frozen if frozen >= 0 else "none")

    def pretrained_parameters(self) -> tuple[list[nn.Parameter], float]:
        """Parameters of the body."""
        return list(self.body.parameters()), self.settings.body_learning_rate


def _freeze(body: PreTrainedModel, layers: int | Literal["none"]) -> None:
    """Freeze the embeddings and the first ``layers`` layers, and train all others."""
    body.requires_grad_(requires_grad=layers == "none")
    for layer in () if layers == "none" else layers_of(body)[layers:]:
        layer.requires_grad_(requires_grad=True)
