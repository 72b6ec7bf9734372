"""The text teacher: a pretrained BERT (Devlin et al. 2019, arXiv:1810.04805) reads the titles of a history and is fine-tuned."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill.data.sequences import Batch
from distill.models.item_table import ItemTable, is_item
from distill.models.teachers.prefix_encoder import PrefixEncoder, draw_positions
from distill.models.teachers.pretrained import layers_of, load_body, load_pretrained
from distill.models.weights import WEIGHTS
from distilrec.config import TextTeacherConfig
from distilrec.core.errors import ConfigError
from distilrec.core.specs import table_rows

_SEPARATOR = " | "
_PREFIXES_AT_ONCE = 128
_NO_TOKEN = -1
_POPULARITY = 10.0
"""First coordinate of a user vector with which scores are standardised log counts (``popularity_prior`` has a tenth of them)."""


class TitleTokens(NamedTuple):
    """All titles as tokens, made once: at inference no tokenizer is needed."""

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

    The newest title comes first: it always stands at the same place, and truncation takes the oldest.

    Args:
        items: the item table; only candidates come from it.
        body: a pretrained model of the BERT family.
        tokens: of all titles.
        settings: sizes, dropout, and what of the body learns when.
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
        # Begins with about the popularity ranking: the few steps of a fine-tuning are for what differs from it.
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
        """Tokens int64 [B, max_tokens] of the newest titles, and which of them are any, bool. History int64 [B, T], left-padded."""
        cls, sep, pad, separator = self.frame.long().unbind()
        tokens = self.titles[self._newest_items(history)].flatten(1).long()  # (B, titles * width)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        present = (tokens != _NO_TOKEN) & (places >= separator)  # no separator before the first title
        size = self.settings.max_tokens
        column = torch.arange(size, device=tokens.device)
        # To the front; what is no token, or too much, goes to the last column, where [SEP] or [PAD] comes.
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
        """A few prefixes of each window, drawn anew each time: a pass of BERT for every prefix is what makes this model dear."""
        known = torch.zeros_like(batch.valid).masked_scatter(batch.valid, batch.targets > 0)
        drawn = draw_positions(known, self.settings.prefixes_per_window)
        drawn[0, 0] |= ~drawn.any()  # never none: every process must take part in every step
        among = drawn[batch.valid]
        return self.encode_prefixes(batch.history, drawn), batch.targets[among], batch.prefixes[among]

    def start_epoch(self, epoch: int) -> None:
        """Gradual unfreezing (Howard and Ruder 2018, arXiv:1801.06146): first the head alone, then one more layer at a time."""
        if self.settings.freeze == "gradual":
            frozen = len(layers_of(self.body)) - epoch // self.settings.unfreeze_every
            # The embeddings come after the lowest layer.
            _freeze(self.body, frozen if frozen >= 0 else "none")

    def pretrained_parameters(self) -> tuple[list[nn.Parameter], float]:
        """The body's."""
        return list(self.body.parameters()), self.settings.body_learning_rate


def _freeze(body: PreTrainedModel, layers: int | Literal["none"]) -> None:
    """Keep the embeddings and the first so many layers as they are, and let all others learn."""
    body.requires_grad_(requires_grad=layers == "none")
    for layer in () if layers == "none" else layers_of(body)[layers:]:
        layer.requires_grad_(requires_grad=True)


def build_text_teacher(
    settings: TextTeacherConfig, model: Path | str, titles: Sequence[str], text: Tensor | None, popularity: Tensor
) -> TextTeacher:
    """A teacher to be fine-tuned.

    Args:
        settings: of the teacher.
        model: folder, or name on the hub, of the pretrained model (``pretrained.find_model``).
        titles: of items 1..N.
        text: float32 [N, d_text], title embeddings for the item vectors.
        popularity: float32 [N].

    Raises:
        ConfigError: the model cannot be had, or is smaller than the settings say.
    """
    body, tokenizer = load_pretrained(model, settings.revision)
    longest, layers = min(tokenizer.model_max_length, body.config.max_position_embeddings), len(layers_of(body))
    if settings.max_tokens > longest:
        raise ConfigError(f"max_tokens of a text teacher: found {settings.max_tokens}, expected at most {longest} with {model}")
    if isinstance(settings.freeze, int) and settings.freeze > layers:
        raise ConfigError(f"freeze of a text teacher: found {settings.freeze}, expected at most {layers} layers with {model}")
    items = ItemTable(len(titles), settings.embedding_size, text, popularity)
    return TextTeacher(items, body, tokenize_titles(titles, tokenizer, settings.max_tokens), settings)


def load_text_teacher(folder: Path, item_count: int, settings: TextTeacherConfig) -> TextTeacher:
    """A trained teacher, from its folder alone."""
    state = load_file(folder / WEIGHTS)
    tokens = TitleTokens(state["titles"], state["frame"])
    teacher = TextTeacher(ItemTable(item_count, settings.embedding_size), load_body(folder), tokens, settings)
    teacher.load_state_dict(state)
    return teacher.eval()
