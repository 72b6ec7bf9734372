"""A BERT body that reads item vectors instead of words."""

from transformers import BertConfig, BertModel


def item_bert(size: int, history_length: int, *, layers: int, heads: int, dropout: float, causal: bool) -> BertModel:
    """An untrained body over vectors of ``size``, at most ``history_length`` of them; causal: none sees those after it."""
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
    body.embeddings.word_embeddings.requires_grad_(requires_grad=False)  # never read; DDP would wait for its gradient
    return body
