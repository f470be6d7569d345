"""DistilBERT, BERT and RoBERTa of transformers in the sizes that a checkpoint's weights have."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from clep.models.published.checkpoint import count_layers
from clep.models.published.model import heads_of

_HEADS = {768: 12, 1024: 16}


def distilbert(state: dict[str, Tensor], prefix: str, sizes: Mapping[str, Any] | None) -> nn.Module:
    """Return DistilBERT (exact GELU, eps 1e-12) for the weights below `prefix`; stored position ids are dropped."""
    from transformers import DistilBertConfig, DistilBertModel

    _drop_position_ids(state, prefix)
    vocabulary, width = state[f"{prefix}embeddings.word_embeddings.weight"].shape
    config = DistilBertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=state[f"{prefix}embeddings.position_embeddings.weight"].shape[0],
        dim=width,
        n_layers=count_layers(state, f"{prefix}transformer.layer"),
        n_heads=heads_of(width, sizes, "text_heads", _HEADS),
        hidden_dim=state[f"{prefix}transformer.layer.0.ffn.lin1.weight"].shape[0],
    )
    return DistilBertModel(config)


def bert(state: dict[str, Tensor], prefix: str, sizes: Mapping[str, Any] | None, layers: int) -> nn.Module:
    """Return the first `layers` layers of BERT (eps 1e-12), without its pooler; other weights are dropped."""
    from transformers import BertConfig, BertModel

    _keep_layers(state, prefix, layers, ("crossattention.", "pooler."))
    return BertModel(_bert_config(BertConfig, state, prefix, sizes, layers, eps=1e-12, pad=0), add_pooling_layer=False)


def roberta(state: dict[str, Tensor], prefix: str, sizes: Mapping[str, Any] | None) -> nn.Module:
    """Return RoBERTa (eps 1e-5, positions from the padding id + 1 on) without pooler and cross-attention."""
    from transformers import RobertaConfig, RobertaModel

    layers = count_layers(state, f"{prefix}encoder.layer")
    _keep_layers(state, prefix, layers, ("crossattention", "alpha_t2i", "pooler."))
    pad = int((sizes or {}).get("pad_id", 1))
    return RobertaModel(
        _bert_config(RobertaConfig, state, prefix, sizes, layers, eps=1e-5, pad=pad), add_pooling_layer=False
    )


def _bert_config(
    config: Any,
    state: Mapping[str, Tensor],
    prefix: str,
    sizes: Mapping[str, Any] | None,
    layers: int,
    eps: float,
    pad: int,
) -> Any:
    vocabulary, width = state[f"{prefix}embeddings.word_embeddings.weight"].shape
    return config(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads_of(width, sizes, "text_heads", _HEADS),
        intermediate_size=state[f"{prefix}encoder.layer.0.intermediate.dense.weight"].shape[0],
        max_position_embeddings=state[f"{prefix}embeddings.position_embeddings.weight"].shape[0],
        type_vocab_size=state[f"{prefix}embeddings.token_type_embeddings.weight"].shape[0],
        layer_norm_eps=eps,
        pad_token_id=pad,
    )


def _keep_layers(state: dict[str, Tensor], prefix: str, layers: int, unused: tuple[str, ...]) -> None:
    _drop_position_ids(state, prefix)
    start = f"{prefix}encoder.layer."
    for name in list(state):
        if (name.startswith(start) and int(name[len(start) :].split(".")[0]) >= layers) or (
            name.startswith(prefix) and any(part in name for part in unused)
        ):
            del state[name]


def _drop_position_ids(state: dict[str, Tensor], prefix: str) -> None:
    for leaf in ("position_ids", "token_type_ids"):
        state.pop(f"{prefix}embeddings.{leaf}", None)
