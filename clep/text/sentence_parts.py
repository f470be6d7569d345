"""Parts of a sentence encoder for fine-tuning: its transformer, and pooling, dense layers and tokenizer as JSON."""

import json
from typing import Any, NamedTuple

from torch import nn

from clep.errors import InputError
from clep.text.sentence_encoder import load_sentence_model

POOLINGS = ("mean", "cls", "max")
ACTIVATIONS = {"Identity": nn.Identity, "Tanh": nn.Tanh, "GELU": nn.GELU, "ReLU": nn.ReLU}
_FILE_KEYS = ("architectures", "dtype", "torch_dtype", "transformers_version", "auto_map")


class SentenceParts(NamedTuple):
    """Parts of a trainable sentence encoder.

    Attributes:
        transformer: model of the library transformers, in float32.
        dense: linear layers after pooling.
        architecture: JSON-serialisable description, from which `build_parts` builds the same parts without weights.
        tokenizer: JSON text of the tokenizer.
    """

    transformer: Any
    dense: list[nn.Linear]
    architecture: dict[str, Any]
    tokenizer: str


def load_parts(name_or_path: str) -> SentenceParts:
    """Load the parts of a sentence encoder, by its name or folder, with their weights.

    Raises:
        InputError: the encoder is not found, or has other modules than a transformer, pooling by mean, class token or
            maximum, linear layers and normalisation.
    """
    model = load_sentence_model(name_or_path, "cpu")
    kinds = [type(module).__name__ for module in model]
    if kinds[:2] != ["Transformer", "Pooling"] or set(kinds[2:]) - {"Dense", "Normalize"} or _late_dense(kinds):
        raise InputError(
            f"the sentence encoder {name_or_path!r} has the modules {', '.join(kinds)}; only Transformer, Pooling, "
            f"Dense and Normalize can be fine-tuned: train on its frozen embeddings (model=mlp)"
        )
    first: Any = model[0]
    pooling: Any = model[1]
    dense: list[Any] = [module for module in model if type(module).__name__ == "Dense"]
    backend = getattr(first.tokenizer, "backend_tokenizer", None)
    activations = [type(layer.activation_function).__name__ for layer in dense]
    activations += ["a residual"] if any(getattr(layer, "use_residual", False) for layer in dense) else []
    if pooling.pooling_mode not in POOLINGS or backend is None or set(activations) - set(ACTIVATIONS):
        raise InputError(
            f"the sentence encoder {name_or_path!r} has pooling {pooling.pooling_mode!r}, activations {activations} "
            f"and {'no' if backend is None else 'a'} fast tokenizer; fine-tuning needs pooling {', '.join(POOLINGS)}, "
            f"activations {', '.join(ACTIVATIONS)} and a fast tokenizer: train on its frozen embeddings (model=mlp)"
        )
    transformer: Any = first.model.float()
    config = json.loads(transformer.config.to_json_string(use_diff=False))
    tokenizer_json = backend.to_str()
    architecture = {
        "transformer": {k: v for k, v in config.items() if not k.startswith("_") and k not in _FILE_KEYS},
        "pooling": pooling.pooling_mode,
        "dense": [
            {"in_dim": layer.linear.in_features, "out_dim": layer.linear.out_features, "activation": activation}
            | {"bias": layer.linear.bias is not None}
            for layer, activation in zip(dense, activations, strict=True)
        ],
        "normalize": "Normalize" in kinds,
        "max_tokens": int(first.max_seq_length or config.get("max_position_embeddings", 512)),
        "pad": int(first.tokenizer.pad_token_id or 0),
        "prompt": (model.prompts or {}).get(model.default_prompt_name or "", "") or "",
        "tokenizer_bytes": len(tokenizer_json.encode()),
    }
    return SentenceParts(_without_pooler(transformer), [layer.linear for layer in dense], architecture, tokenizer_json)


def build_parts(architecture: dict[str, Any]) -> SentenceParts:
    """Build the parts that an architecture describes, with random weights and no tokenizer.

    Nothing is downloaded, and no code from the hub is run.

    Raises:
        InputError: the description is invalid, or the installed transformers library does not know the model.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModel

    described = architecture.get("transformer")
    if not isinstance(described, dict) or architecture.get("pooling") not in POOLINGS:
        raise InputError("encoder: the description of a sentence encoder needs `transformer` (a dict) and `pooling`")
    options = {k: v for k, v in described.items() if not k.startswith("_") and k not in _FILE_KEYS}
    options.pop("attn_implementation", None)  # may name code on the hub
    try:
        config = AutoConfig.for_model(options.pop("model_type", ""), **options)
        transformer: Any = AutoModel.from_config(config, trust_remote_code=False)
        dense = [nn.Linear(layer["in_dim"], layer["out_dim"], layer["bias"]) for layer in architecture["dense"]]
    except (ValueError, TypeError, KeyError, AttributeError, ImportError, StrictDataclassError) as error:
        raise InputError(f"encoder: a sentence encoder cannot be built as described: {error}") from error
    return SentenceParts(_without_pooler(transformer.float()), dense, architecture, "")


def _late_dense(kinds: list[str]) -> bool:
    return "Normalize" in kinds and "Dense" in kinds[kinds.index("Normalize") :]


def _without_pooler(transformer: Any) -> Any:
    """Remove the pooler layer: no pooling here uses it, so its parameters would get no gradient."""
    if getattr(transformer, "pooler", None) is not None:
        transformer.pooler = None
    return transformer
