"""A BERT body that reads item vectors instead of words."""

from transformers import BertConfig, BertModel

from distill.models.dropout import with_fast_dropout


def item_bert(size: int, history_length: int, *, layers: int, heads: int, dropout: float, causal: bool) -> BertModel:
    """An untrained body that reads item vectors.

    Args:
        size: d of the item vectors and the hidden states.
        history_length: Longest sequence.
        layers: Transformer layers.
        heads: Attention heads of each layer.
        dropout: Dropout of attention and hidden states.
        causal: Whether a position sees only those before it.
    """
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
        is_decoder=causal,
        use_cache=False,
    )
    body = BertModel(config, add_pooling_layer=False)
    with_fast_dropout(body)
    body.embeddings.word_embeddings.requires_grad_(requires_grad=False)  # never read; DDP would wait for its gradient
    return body
