"""A tiny model that reads forwards alone, as the tiny BERT of conftest.py is one that reads in both directions."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2Model, LlamaConfig, LlamaModel, PreTrainedTokenizerFast


def write_tiny_gpt(folder: Path, kind: str) -> Path:
    """A random GPT-2 or Llama with three layers, and a tokenizer of the same words; no token for padding, as theirs have none."""
    torch.manual_seed(0)
    words = ["<unk>", "<s>", "</s>", "genre", "number", "|", *map(str, range(90))]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    ids = {"vocab_size": len(words), "bos_token_id": 1, "eos_token_id": 2}
    if kind == "gpt2":
        GPT2Model(GPT2Config(n_embd=16, n_layer=3, n_head=2, n_positions=64, **ids)).save_pretrained(folder)
    else:
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
        LlamaModel(LlamaConfig(max_position_embeddings=64, **sizes, **ids)).save_pretrained(folder)
    return folder
