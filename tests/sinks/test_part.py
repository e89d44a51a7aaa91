"""Which axis is the residual stream's is checked by what a change of one dimension of it does to the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_langcore.architecture import decoder_weights
from hf_langcore.errors import InputError
from hf_langcore.masks import CoreMask
from hf_langcore.sinks.part import region_of_dimensions, residual_axes

WIDTH = 32


def everything(model: Any) -> CoreMask:
    weights = decoder_weights(model)
    return CoreMask({name: torch.ones(weight.shape, dtype=torch.bool) for name, weight in weights.items()})


LLAMA = {
    "self_attn.q_proj.weight": 1,
    "self_attn.q_proj.bias": None,
    "self_attn.k_proj.weight": 1,
    "self_attn.k_proj.bias": None,
    "self_attn.v_proj.weight": 1,
    "self_attn.v_proj.bias": None,
    "self_attn.o_proj.weight": 0,
    "self_attn.o_proj.bias": 0,
    "mlp.gate_proj.weight": 1,
    "mlp.up_proj.weight": 1,
    "mlp.down_proj.weight": 0,
    "input_layernorm.weight": 0,
    "post_attention_layernorm.weight": 0,
}
GPT2 = {  # stores (inputs, outputs)
    "ln_1.weight": 0,
    "ln_1.bias": 0,
    "attn.c_attn.weight": 0,
    "attn.c_attn.bias": None,
    "attn.c_proj.weight": 1,
    "attn.c_proj.bias": 0,
    "ln_2.weight": 0,
    "ln_2.bias": 0,
    "mlp.c_fc.weight": 0,
    "mlp.c_fc.bias": None,
    "mlp.c_proj.weight": 1,
    "mlp.c_proj.bias": 0,
}
QWEN3 = {  # norms of queries and keys act inside a head
    "self_attn.q_proj.weight": 1,
    "self_attn.k_proj.weight": 1,
    "self_attn.v_proj.weight": 1,
    "self_attn.o_proj.weight": 0,
    "self_attn.q_norm.weight": None,
    "self_attn.k_norm.weight": None,
    "mlp.gate_proj.weight": 1,
    "mlp.up_proj.weight": 1,
    "mlp.down_proj.weight": 0,
    "input_layernorm.weight": 0,
    "post_attention_layernorm.weight": 0,
}
MIXTRAL = {
    "self_attn.q_proj.weight": 1,
    "self_attn.k_proj.weight": 1,
    "self_attn.v_proj.weight": 1,
    "self_attn.o_proj.weight": 0,
    "mlp.gate.weight": 1,
    "mlp.experts.gate_up_proj": 2,
    "mlp.experts.down_proj": 1,
    "input_layernorm.weight": 0,
    "post_attention_layernorm.weight": 0,
}
PHI3 = {  # fused projections
    "self_attn.o_proj.weight": 0,
    "self_attn.qkv_proj.weight": 1,
    "mlp.gate_up_proj.weight": 1,
    "mlp.down_proj.weight": 0,
    "input_layernorm.weight": 0,
    "post_attention_layernorm.weight": 0,
}
COMMON = {
    "vocab_size": 120, "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def build(kind: str) -> Any:
    """One layer of each kind, with heads as wide as the hidden states where that makes shapes say least."""
    import transformers

    own: dict[str, Any] = {
        "Llama": {"attention_bias": True, "intermediate_size": 48},
        "Olmo2": {"intermediate_size": 48},
        "Qwen3": {"intermediate_size": 48, "head_dim": WIDTH},
        "Mixtral": {"intermediate_size": WIDTH, "num_local_experts": 3, "num_experts_per_tok": 2},
        "Phi3": {"intermediate_size": 48},
    }[kind]
    config = getattr(transformers, f"{kind}Config")(**COMMON, **own)
    torch.manual_seed(0)
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


def short_names(model: Any, prefix: str) -> dict[str, int | None]:
    axes = residual_axes(model, decoder_weights(model), width=WIDTH)
    return {name.removeprefix(prefix): axis for name, axis in axes.items() if name.startswith(prefix)}


@pytest.mark.parametrize(
    ("kind", "expected"), [("Llama", LLAMA), ("Qwen3", QWEN3), ("Phi3", PHI3)], ids=["llama", "qwen3", "phi3"]
)
def test_axes_of_a_layer(kind: str, expected: dict[str, int | None]) -> None:
    assert short_names(build(kind), "model.layers.0.") == expected


def test_axes_of_stored_the_other_way_round(gpt2: Any) -> None:
    assert short_names(gpt2, "transformer.h.0.") == GPT2


def test_a_stack_of_experts_writes_with_its_last_matrix() -> None:
    found = short_names(build("Mixtral"), "model.layers.0.")
    experts = {name for name in found if "experts" in name}
    assert len(experts) == 2
    assert found == {name: MIXTRAL[name] for name in found}
    assert len(found) == len(MIXTRAL)


def test_norms_inside_attention_are_none_of_the_stream() -> None:
    found = short_names(build("Olmo2"), "model.layers.0.")
    assert (found["self_attn.q_norm.weight"], found["self_attn.k_norm.weight"]) == (None, None)
    assert (found["post_attention_layernorm.weight"], found["post_feedforward_layernorm.weight"]) == (0, 0)


@pytest.mark.parametrize("kind", ["Llama", "Qwen3", "Phi3", "Mixtral"])
def test_without_its_region_a_dimension_does_not_matter(kind: str) -> None:
    """Zero all that reads a dimension: what enters the layer there, leaves it there and touches nothing else."""
    model = build(kind)
    dimension = 7
    core_mask = everything(model)
    region = region_of_dimensions(model, core_mask, [dimension], width=WIDTH)
    with torch.no_grad():
        for name, weight in decoder_weights(model).items():
            if name.split(".")[-1] == "bias" or "norm" in name:
                continue
            weight.parameter.masked_fill_(region[name], 0.0)
    layer = model.model.layers[0]
    hidden, seen = torch.randn(1, 4, WIDTH), []
    # The norm mixes dimensions by their common scale, so the change keeps that: only the sign turns.
    turned = hidden.clone()
    turned[..., dimension] *= -1
    positions = torch.arange(4)[None]
    embeddings = model.model.rotary_emb(hidden, positions)
    with torch.no_grad():
        for states in (hidden, turned):
            out = layer(states, position_embeddings=embeddings, position_ids=positions)
            seen.append((out[0] if isinstance(out, tuple) else out).reshape(1, 4, WIDTH) - states)
    assert torch.allclose(seen[0], seen[1], atol=1e-5)
    assert seen[0][..., dimension].abs().max() < 1e-6
    assert seen[0].abs().max() > 1e-2


def test_the_region_holds_whole_rows_columns_and_gains(llama: Any) -> None:
    core_mask = everything(llama)
    region = region_of_dimensions(llama, core_mask, [3, 30], width=WIDTH)
    query = region["model.layers.1.self_attn.q_proj.weight"]
    assert query[:, [3, 30]].all()
    assert int(query.sum()) == 2 * WIDTH
    assert region["model.layers.0.mlp.down_proj.weight"].sum(1).nonzero().view(-1).tolist() == [3, 30]
    assert region["model.layers.0.input_layernorm.weight"].nonzero().view(-1).tolist() == [3, 30]
    assert (core_mask & region).count() + (core_mask - region).count() == core_mask.count()
    assert "residual dimensions 3 30" in (core_mask - region).provenance.summary()


@pytest.mark.parametrize("dimensions", [[], [32], [-1]])
def test_dimensions_that_do_not_exist_are_refused(llama: Any, dimensions: list[int]) -> None:
    with pytest.raises(InputError, match="from 0 to 31"):
        region_of_dimensions(llama, everything(llama), dimensions, width=WIDTH)
