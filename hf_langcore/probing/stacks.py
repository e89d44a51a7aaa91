"""The part of a model that makes hidden states, and what it takes."""

from __future__ import annotations

from typing import Any

from torch import nn

from hf_langcore.architecture import unwrap
from hf_langcore.data.blocks import text_config
from hf_langcore.errors import UnsupportedModelError

_UNLIMITED_CONTEXT = 1 << 20  # configs and tokenizers write huge numbers for "no limit"


def is_encoder(model: Any) -> bool:
    """Whether a model reads a text in both directions, by its config: BERT and its family, encoders of T5 and BART.

    What the model computes does not decide it, since an edit may change that.

    Args:
        model: A model, bare or wrapped, or its config.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    config = unwrap(model).config if isinstance(model, nn.Module) else model
    if getattr(config, "is_encoder_decoder", False):
        return True
    return getattr(config, "model_type", "") in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(
        config, "is_decoder", False
    )


def text_stack(model: nn.Module) -> Any:
    """The part of a model that makes hidden states, without heads; the encoder of an encoder-decoder model.

    Raises:
        UnsupportedModelError: It is no model of transformers.
    """
    bare: Any = unwrap(model)
    if getattr(bare, "config", None) is None:
        raise UnsupportedModelError(
            f"{type(bare).__name__} is no model of transformers (it has no config). Load it with AutoModel.from_pretrained."
        )
    stack = getattr(bare, "base_model", bare)
    return stack.get_encoder() if getattr(bare.config, "is_encoder_decoder", False) else stack


def context_length(model: nn.Module, tokenizer: Any) -> int:
    """The longest sequence that a model takes, in tokens, special tokens included; a large number without limit."""
    limit = getattr(text_config(unwrap(model)), "max_position_embeddings", None)
    limits = [limit if isinstance(limit, int) and limit > 0 else _UNLIMITED_CONTEXT]
    limits.append(int(min(getattr(tokenizer, "model_max_length", None) or _UNLIMITED_CONTEXT, _UNLIMITED_CONTEXT)))
    for name, module in unwrap(model).named_modules():
        # RoBERTa and its relatives leave the first positions to padding.
        if (
            name.endswith("position_embeddings")
            and isinstance(module, nn.Embedding)
            and module.padding_idx is not None
        ):
            limits.append(module.num_embeddings - module.padding_idx - 1)
    return min(limits)
