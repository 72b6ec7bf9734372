"""Teacher kind ``text``: a pretrained text model reads titles and is fine-tuned.

It is a BERT (Devlin et al. 2019, arXiv:1810.04805), or a model that reads forwards alone, as GPT (Radford et al. 2019) and Llama.
"""

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
from distill.models.teachers.pretrained import (
    find_model,
    is_causal,
    layers_of,
    load_body,
    load_pretrained,
    longest_text,
    model_identity,
    save_form,
    special_tokens,
    top_norm_of,
)
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
    """A pretrained BERT or GPT that reads the titles of a history as text, and is fine-tuned."""

    kind: Literal["text"] = "text"
    summary = "A pretrained text model, fine-tuned, that reads a history as titles. The student learns from it; it is not served."
    model: str | Path | None = None
    """Folder of a model and its tokenizer, or its name on the Hugging Face hub: one of the BERT family, or one that reads forwards
    alone (GPT-2, Llama and others of ``transformers``). Which of both it is, is found out. None for the model that embeds titles
    (section ``text``)."""
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
        longest, layers = longest_text(body, tokenizer), len(layers_of(body))
        if self.max_tokens > longest:
            raise ConfigError(f"max_tokens of a text teacher: found {self.max_tokens}, expected at most {longest} with {model}")
        if isinstance(self.freeze, int) and self.freeze > layers:
            raise ConfigError(f"freeze of a text teacher: found {self.freeze}, expected at most {layers} layers with {model}")
        items = catalogue.item_table(self.embedding_size)
        return TextTeacher(items, body, tokenize_titles(catalogue.titles, tokenizer, self.max_tokens, causal=is_causal(body)), self)

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
    """int32 [5]: the tokens at start and end and for padding; S; 1 where the model reads forwards alone, else 0."""


def tokenize_titles(
    titles: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_tokens: int, *, causal: bool = False
) -> TitleTokens:
    """Tokens of the titles of items 1..N; of each title at most what a text of ``max_tokens`` can hold.

    Args:
        titles: Titles of items 1..N.
        tokenizer: Tokenizer of the model that will read them.
        max_tokens: Longest text.
        causal: Whether the model reads forwards alone.
    """
    separator = tokenizer(_SEPARATOR, add_special_tokens=False)["input_ids"]
    found = tokenizer(list(titles), add_special_tokens=False, truncation=True, max_length=max_tokens - 2)["input_ids"]
    table = torch.full((table_rows(len(titles)), len(separator) + max(map(len, found))), _NO_TOKEN, dtype=torch.int32)
    for row, tokens in enumerate(found, start=1):
        table[row, : len(separator) + len(tokens)] = torch.tensor([*separator, *tokens], dtype=torch.int32)
    frame = (*special_tokens(tokenizer), len(separator), int(causal))
    return TitleTokens(table, torch.tensor(frame, dtype=torch.int32))


class TextTeacher(PrefixEncoder):
    """``[CLS] newest title | the one before | ... [SEP]`` -> BERT -> [CLS] vector -> linear -> product with the item vectors.

    The newest title comes first, so that it always has the same position. A model that reads forwards alone gets ``[BOS] ... | the
    one before | newest title [EOS]`` instead, and its vector is that of [EOS], the only token that has read all. Padding stands at
    the right for both, so that positions count from the first token. Truncation removes the oldest titles.

    Args:
        items: the item table; only candidates come from it.
        body: a pretrained model.
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
        self.causal = bool(tokens.frame[4])
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
        if self.causal:
            ends = present.long().sum(dim=1) - 1
            states = states.gather(1, ends[:, None, None].expand(-1, 1, states.shape[2]))
        vectors: Tensor = self.head(self.dropout(states[:, 0]))
        return self.popular_if_empty(vectors, is_item(history, self.item_count))

    def text_of(self, history: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of the newest titles, and a mask without padding. int64 [B, T], left-padded -> int64, bool [B, max_tokens]."""
        first, last, pad, separator, _ = self.frame.long().unbind()
        items = self._newest_items(history)
        tokens = self.titles[items.flip(1) if self.causal else items].flatten(1).long()  # (B, titles * width)
        present = tokens != _NO_TOKEN
        present = present & (present.cumsum(dim=1) > separator)  # no separator before the first title
        size = self.settings.max_tokens
        column = torch.arange(size, device=tokens.device)
        places, total = present.cumsum(dim=1), present.long().sum(dim=1, keepdim=True)
        if self.causal:
            places = places - (total - (size - 2)).clamp(min=0)  # the oldest tokens come first, and are left out
        # Tokens move to the front; padding and tokens beyond the limit go to the last column, which ``last`` or padding overwrites.
        columns = torch.where(present & (places > 0), places, size).clamp(max=size - 1)
        text = torch.where(column == 0, first, pad).expand(history.shape[0], -1).scatter(1, columns, tokens)
        end = total.clamp(max=size - 2) + 1
        text = torch.where(column < end, text, torch.where(column == end, last, pad))
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
    """Freeze the embeddings and the first ``layers`` layers, and train all others, with the normalisation above the highest one."""
    body.requires_grad_(requires_grad=layers == "none")
    above = [] if layers == "none" else layers_of(body)[layers:]
    norm = top_norm_of(body)
    for part in [*above, norm] if above and norm is not None else above:
        part.requires_grad_(requires_grad=True)
