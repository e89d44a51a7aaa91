"""What of a model can be scanned, in models of several families."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    GptOssConfig,
    GptOssForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
)

from hf_langcore.errors import UnsupportedModelError
from hf_langcore.scanning.tensors import Tensors, norm_weights

SHAPE = {
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


def test_a_llama(llama: Any) -> None:
    """Norms with the final one, matrices of the layers alone, gate and up before down."""
    tensors = Tensors.of(llama)
    assert len(tensors.norms) == 5
    assert "model.norm.weight" in tensors.norms
    assert len(tensors.matrices) == 14
    assert tensors.layers == ("model.layers.0", "model.layers.1")
    assert tensors.width == 32
    assert [tensors.layer(name) for name in ("model.layers.1.mlp.up_proj.weight", "model.norm.weight")] == [1, None]
    writers = {name.rsplit(".", 2)[1] for name, matrix in tensors.matrices.items() if matrix.is_writer}
    assert writers == {"o_proj", "down_proj"}
    mlp = llama.model.layers[0].mlp
    expected = mlp.gate_proj.weight.norm(dim=1) * mlp.up_proj.weight.norm(dim=1)
    assert torch.allclose(tensors.feed_forwards[0].strengths(), expected)


def test_fused_projections() -> None:
    """Phi-3: one matrix for queries, keys and values, and one for gates and the others."""
    model = Phi3ForCausalLM(Phi3Config(**SHAPE))
    tensors = Tensors.of(model)
    assert tensors.matrices["model.layers.0.self_attn.qkv_proj.weight"].values().shape == (48, 16)
    fused = model.model.layers[0].mlp.gate_up_proj.weight
    expected = fused[:24].norm(dim=1) * fused[24:].norm(dim=1)
    assert torch.allclose(tensors.feed_forwards[0].strengths(), expected)


@pytest.mark.parametrize("is_transposed", [False, True])
def test_stacked_experts(is_transposed: bool) -> None:
    """Whichever way round the experts are stored, rows are outputs."""
    experts = {"num_local_experts": 3, "num_experts_per_tok": 2}
    model: Any = (
        GptOssForCausalLM(GptOssConfig(**SHAPE, **experts, head_dim=8, layer_types=["full_attention"] * 2))
        if is_transposed
        else MixtralForCausalLM(MixtralConfig(**SHAPE, **experts))
    )
    tensors = Tensors.of(model)
    down = next(matrix for name, matrix in tensors.matrices.items() if name.endswith("down_proj"))
    assert down.is_stacked
    assert down.is_transposed == is_transposed
    assert down.values().shape == (3, 16, 24)
    assert tensors.feed_forwards[0].strengths().shape == (3, 24)


def test_models_without_norms() -> None:
    """Said in words that name what else can be scanned."""

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(4, 4)])

    with pytest.raises(UnsupportedModelError, match=r"no norm weights.*kinds="):
        norm_weights(Plain())
    tensors = Tensors.of(Plain())
    assert not tensors.norms
    assert list(tensors.matrices) == ["layers.0.weight"]
