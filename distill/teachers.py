"""Teachers: large encoders whose opinion the student learns."""

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from distill.item_table import ItemTable, is_item
from distill.students import decay_weights


class SequenceTeacher(nn.Module):
    """BERT body over item vectors, reading causally (as SASRec, Kang and McAuley 2018), so that every position predicts.

    Args:
        items: the item table, size d.
        history_length: L, longest sequence.
        layers, heads, dropout: of the transformer.
    """

    def __init__(self, items: ItemTable, history_length: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.items = items
        size = items.embedding_size
        config = BertConfig(
            vocab_size=1,  # items come as vectors
            hidden_size=size,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * size,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            max_position_embeddings=history_length,
            type_vocab_size=1,
            is_decoder=True,
            use_cache=False,
        )
        self.body = BertModel(config, add_pooling_layer=False)
        self.head = nn.Linear(size, size)
        self.norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("weights", decay_weights(history_length, [0.6]), persistent=False)

    def encode_all(self, history: Tensor) -> Tensor:
        """int64 [B, T], right-padded -> float32 [B, T, d]."""
        return self._encode(history, is_item(history, self.items.item_count))

    def encode_last(self, history: Tensor) -> Tensor:
        """int64 [B, L], left-padded -> float32 [B, d]."""
        return self._encode(history, is_item(history, self.items.item_count))[:, -1]

    def _encode(self, history: Tensor, mask: Tensor) -> Tensor:
        # Positions count from the oldest item, wherever the padding stands.
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        vectors = nn.functional.embedding(history, self.items()) * mask.unsqueeze(2)
        states = self.body(inputs_embeds=vectors, attention_mask=mask.long(), position_ids=positions)
        length = history.shape[1]
        weights = self.weights[-length:, 0, -length:]
        base = torch.matmul(weights, vectors) / torch.matmul(weights, mask.unsqueeze(2).float()).clamp(min=1e-6)
        return self.dropout(self.norm(base + self.head(states.last_hidden_state)))


def parameter_count(model: nn.Module) -> int:
    """Numbers a model needs at inference (its item table folded)."""
    return sum(parameter.numel() for parameter in model.parameters())
