"""A sentence encoder taken apart: its transformer, and as plain data what turns that into a sentence encoder."""

import json
from typing import Any, NamedTuple

from torch import nn

from clep.errors import InputError
from clep.text.sentence_encoder import load_sentence_model

POOLINGS = ("mean", "cls", "max")
ACTIVATIONS = {"Identity": nn.Identity, "Tanh": nn.Tanh, "GELU": nn.GELU, "ReLU": nn.ReLU}
_OF_THE_FILE = ("architectures", "dtype", "torch_dtype", "transformers_version", "auto_map")


class SentenceParts(NamedTuple):
    """What a trainable sentence encoder is made of.

    Attributes:
        transformer: of the library transformers, with its weights, in float32.
        dense: linear layers after pooling.
        architecture: builds the same without weights (`build_parts`): plain JSON.
        tokenizer: JSON text of the tokenizer.
    """

    transformer: Any
    dense: list[nn.Linear]
    architecture: dict[str, Any]
    tokenizer: str


def load_parts(name_or_path: str) -> SentenceParts:
    """Load a sentence encoder's parts by its name or folder, with its weights.

    Raises:
        InputError: it is not there, or is more than a transformer, pooling by mean, class token or maximum, linear
            layers and normalisation.
    """
    model = load_sentence_model(name_or_path, "cpu")
    kinds = [type(module).__name__ for module in model]
    if kinds[:2] != ["Transformer", "Pooling"] or set(kinds[2:]) - {"Dense", "Normalize"} or _late_dense(kinds):
        raise InputError(
            f"the sentence encoder {name_or_path!r} is made of {', '.join(kinds)}; one that is trained may have a "
            f"Transformer, Pooling, Dense layers and Normalize. Train on its frozen embeddings (model=mlp)"
        )
    first: Any = model[0]
    pooling: Any = model[1]
    dense: list[Any] = [module for module in model if type(module).__name__ == "Dense"]
    backend = getattr(first.tokenizer, "backend_tokenizer", None)
    activations = [type(layer.activation_function).__name__ for layer in dense]
    activations += ["a residual"] if any(getattr(layer, "use_residual", False) for layer in dense) else []
    if pooling.pooling_mode not in POOLINGS or backend is None or set(activations) - set(ACTIVATIONS):
        raise InputError(
            f"the sentence encoder {name_or_path!r} pools by {pooling.pooling_mode!r}, has activations {activations} "
            f"and {'no' if backend is None else 'a'} fast tokenizer; one that is trained pools by "
            f"{', '.join(POOLINGS)}, has {', '.join(ACTIVATIONS)} and a fast tokenizer. Train on its frozen "
            f"embeddings (model=mlp)"
        )
    transformer: Any = first.model.float()
    config = json.loads(transformer.config.to_json_string(use_diff=False))
    described = backend.to_str()
    architecture = {
        "transformer": {k: v for k, v in config.items() if not k.startswith("_") and k not in _OF_THE_FILE},
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
        "tokenizer_bytes": len(described.encode()),
    }
    return SentenceParts(_without_pooler(transformer), [layer.linear for layer in dense], architecture, described)


def build_parts(architecture: dict[str, Any]) -> SentenceParts:
    """Build the parts that an architecture describes, with random weights and no tokenizer; nothing is fetched or run.

    Raises:
        InputError: the description is none, or of a transformer that the installed library does not know.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModel

    described = architecture.get("transformer")
    if not isinstance(described, dict) or architecture.get("pooling") not in POOLINGS:
        raise InputError("encoder: the description of a sentence encoder needs `transformer` (a dict) and `pooling`")
    plain = {k: v for k, v in described.items() if not k.startswith("_") and k not in _OF_THE_FILE}
    plain.pop("attn_implementation", None)  # may name code on the hub
    try:
        config = AutoConfig.for_model(plain.pop("model_type", ""), **plain)
        transformer: Any = AutoModel.from_config(config, trust_remote_code=False)
        dense = [nn.Linear(layer["in_dim"], layer["out_dim"], layer["bias"]) for layer in architecture["dense"]]
    except (ValueError, TypeError, KeyError, AttributeError, ImportError, StrictDataclassError) as error:
        raise InputError(f"encoder: a sentence encoder cannot be built as described: {error}") from error
    return SentenceParts(_without_pooler(transformer.float()), dense, architecture, "")


def _late_dense(kinds: list[str]) -> bool:
    return "Normalize" in kinds and "Dense" in kinds[kinds.index("Normalize") :]


def _without_pooler(transformer: Any) -> Any:
    """Leave out the layer over the class token, which no pooling here reads and whose gradient nobody would compute."""
    if getattr(transformer, "pooler", None) is not None:
        transformer.pooler = None
    return transformer
