"""What a weight does, told from names: on the models of transformers, built without values."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import transformers as t

from hf_langcore.architecture import bare_weights
from hf_langcore.roles import Role, role_of, roles_of

SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SMALL = {**SPECIAL, "vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
GATED = {**SMALL, "intermediate_size": 40, "num_key_value_heads": 2}
FUSED = {**SMALL, "intermediate_size": 40}
GPT = {**SPECIAL, "vocab_size": 61, "n_embd": 24, "n_layer": 2, "n_head": 4}
EXPERTS = {**GATED, "num_experts": 2, "moe_intermediate_size": 16, "num_experts_per_tok": 1}

SEPARATE, FUSED_QKV = {"q": 1, "k": 1, "v": 1, "o": 1}, {"qkv": 1, "o": 1}
GATED_FF, PLAIN_FF = {"gate": 1, "up": 1, "down": 1}, {"up": 1, "down": 1}
STACKED = {"gate and up": 1, "down": 1, "router": 1}
# class, config, its values, matrices of the first layer by kind
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, int]]] = {
    "Llama": ("", GATED, {**SEPARATE, **GATED_FF}),
    "Qwen2": ("", GATED, {**SEPARATE, **GATED_FF}),
    "Qwen3": ("", GATED, {**SEPARATE, **GATED_FF}),
    "Gemma": ("", {**GATED, "head_dim": 8}, {**SEPARATE, **GATED_FF}),
    "Gemma2": ("", {**GATED, "head_dim": 8}, {**SEPARATE, **GATED_FF}),
    "Gemma3": ("Text", {**GATED, "head_dim": 8}, {**SEPARATE, **GATED_FF}),
    "Mistral": ("", GATED, {**SEPARATE, **GATED_FF}),
    "Olmo": ("", GATED, {**SEPARATE, **GATED_FF}),
    "Olmo2": ("", GATED, {**SEPARATE, **GATED_FF}),
    "StableLm": ("", GATED, {**SEPARATE, **GATED_FF}),
    "Cohere": ("", GATED, {**SEPARATE, **GATED_FF}),
    "Phi3": ("", GATED, {**FUSED_QKV, "gate and up": 1, "down": 1}),
    "Phi": ("", GATED, {**SEPARATE, **PLAIN_FF}),
    "Starcoder2": ("", GATED, {**SEPARATE, **PLAIN_FF}),
    "GPTJ": ("", {**GPT, "rotary_dim": 4}, {**SEPARATE, **PLAIN_FF}),
    "OPT": ("", {**SMALL, "ffn_dim": 40, "word_embed_proj_dim": 24}, {**SEPARATE, **PLAIN_FF}),
    "GPTNeoX": ("", FUSED, {**FUSED_QKV, **PLAIN_FF}),
    "Falcon": ("", SMALL, {**FUSED_QKV, **PLAIN_FF}),
    "GPTBigCode": ("", GPT, {**FUSED_QKV, **PLAIN_FF}),
    "Bloom": (
        "",
        {**SPECIAL, "vocab_size": 61, "hidden_size": 24, "n_layer": 2, "n_head": 4},
        {**FUSED_QKV, **PLAIN_FF},
    ),
    "Mpt": ("", {**SPECIAL, "vocab_size": 61, "d_model": 24, "n_layers": 2, "n_heads": 4}, {**FUSED_QKV, **PLAIN_FF}),
    "Mixtral": ("", {**GATED, "num_local_experts": 2}, {**SEPARATE, **STACKED}),
    "Qwen3Moe": ("", EXPERTS, {**SEPARATE, **STACKED}),
    "Qwen2Moe": (
        "",
        {**EXPERTS, "shared_expert_intermediate_size": 16},
        {**SEPARATE, "gate and up": 1, "gate": 1, "up": 1, "down": 2, "router": 2},
    ),
}


def build(name: str) -> Any:
    infix, values, _ = MODELS[name]
    config = getattr(t, f"{name}{infix}Config")(**values)
    with torch.device("meta"):
        return getattr(t, f"{name}ForCausalLM")(config)


@pytest.mark.parametrize("name", list(MODELS))
def test_every_matrix_of_a_layer(name: str) -> None:
    """Each has its kind, and the roles have the shapes that such matrices have: only those that write read the width."""
    weights = bare_weights(build(name))
    roles = roles_of(weights)
    found: dict[str, int] = {}
    for one, role in roles.items():
        if role.layer == 0 and len(weights[one].shape) > 1:
            found[role.kind] = found.get(role.kind, 0) + 1
    assert found == MODELS[name][2]
    inside = {one: role for one, role in roles.items() if role.layer is not None}
    assert {role.layer for role in inside.values()} == {0, 1}
    assert not [one for one, role in inside.items() if role.name == "other"]
    vectors = [one for one in inside if "norm" in one.rsplit(".", 2)[-2].lower() or ".ln_" in one]
    assert all((roles[one].name == "norm") == (one in vectors) for one in inside)
    outside = {role.name for role in roles.values() if role.layer is None}
    assert outside <= {"other", "norm"}


def test_gpt2() -> None:
    """Two modules called c_proj: told apart by where they are; Conv1D and biases."""
    config = t.GPT2Config(**GPT)
    with torch.device("meta"):
        roles = roles_of(bare_weights(t.GPT2LMHeadModel(config)))
    kinds = {
        name.removeprefix("transformer.h.1."): (role.name, role.kind)
        for name, role in roles.items()
        if role.layer == 1
    }
    assert kinds == {
        "ln_1.weight": ("norm", "input norm"),
        "ln_1.bias": ("norm", "input norm"),
        "attn.c_attn.weight": ("attention", "qkv"),
        "attn.c_attn.bias": ("attention", "qkv"),
        "attn.c_proj.weight": ("attention", "o"),
        "attn.c_proj.bias": ("attention", "o"),
        "ln_2.weight": ("norm", "feed-forward norm"),
        "ln_2.bias": ("norm", "feed-forward norm"),
        "mlp.c_fc.weight": ("feed-forward", "up"),
        "mlp.c_fc.bias": ("feed-forward", "up"),
        "mlp.c_proj.weight": ("feed-forward", "down"),
        "mlp.c_proj.bias": ("feed-forward", "down"),
    }


def test_shares_of_a_llama() -> None:
    """With LLaMA's proportions attention has about a third of the weights of the layers."""
    config = t.LlamaConfig(**{**SMALL, "hidden_size": 192, "intermediate_size": 512, "num_attention_heads": 6})
    with torch.device("meta"):
        weights = bare_weights(t.LlamaForCausalLM(config))
    sizes: dict[str, int] = {}
    for name, role in roles_of(weights).items():
        if role.layer is not None:
            sizes[role.name] = sizes.get(role.name, 0) + math.prod(weights[name].shape)
    assert sizes["attention"] / sum(sizes.values()) == pytest.approx(1 / 3, abs=0.01)
    assert sizes["feed-forward"] / sum(sizes.values()) == pytest.approx(2 / 3, abs=0.01)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.layers.12.self_attn.q_proj.weight", Role("attention", "q", 12)),
        ("model.layers.0.self_attn.q_norm.weight", Role("norm", "q norm", 0)),
        ("model.layers.0.post_attention_layernorm.weight", Role("norm", "post-attention norm", 0)),
        ("model.layers.3.mlp.experts.7.down_proj.weight", Role("feed-forward", "down", 3)),
        ("model.layers.3.mlp.experts.down_proj_bias", Role("feed-forward", "down", 3)),
        ("model.layers.3.mlp.router.bias", Role("router", "router", 3)),
        ("model.layers.0.mlp.gate.weight", Role("other", "other", 0)),  # a router, or the gate of a feed-forward block
        ("model.layers.0.self_attn.sinks", Role("attention", "other", 0)),
        ("model.norm.weight", Role("norm", "norm", None)),
        ("model.embed_tokens.weight", Role("other", "other", None)),
        ("lm_head.weight", Role("other", "other", None)),
        ("backbone.layers.0.mixer.in_proj.weight", Role("other", "other", 0)),
        ("backbone.layers.0.mixer.out_proj.weight", Role("other", "other", 0)),
        ("blocks.0.something.weight", Role("other", "other", 0)),
        ("weight", Role("other", "other", None)),
        ("vision.mlp.fc1.weight", Role("other", "other", None)),  # in no layer
        ("layers.0.attention.mlp.up_proj.weight", Role("feed-forward", "up", 0)),  # the innermost module counts
    ],
)
def test_single_names(name: str, expected: Role) -> None:
    assert role_of(name) == expected


def test_neighbours_decide() -> None:
    """What stands beside a weight: experts make `gate` a router, a third matrix makes `w1` a gate, "mixer" is what it holds."""
    plain = roles_of(f"layers.0.mlp.{one}.weight" for one in ("gate", "up_proj", "down_proj"))
    assert plain["layers.0.mlp.gate.weight"] == Role("feed-forward", "gate", 0)
    routed = roles_of(["layers.0.mlp.gate.weight", "layers.0.mlp.experts.0.up_proj.weight"])
    assert routed["layers.0.mlp.gate.weight"] == Role("router", "router", 0)
    three, two = (
        roles_of(f"layers.0.ffn.{one}.weight" for one in names) for names in (("w1", "w2", "w3"), ("w1", "w2"))
    )
    assert [role.kind for role in three.values()] == ["gate", "down", "up"]
    assert [role.kind for role in two.values()] == ["up", "down"]
    mixed = [f"layers.0.mixer.{one}.weight" for one in ("q_proj", "k_proj", "v_proj", "o_proj")]
    assert {role.name for role in roles_of(mixed).values()} == {"attention"}
    assert {role.name for role in roles_of(mixed[:1]).values()} == {"other"}
    pair = [f"layers.1.mixer.{one}.weight" for one in ("up_proj", "down_proj")]
    assert [role.kind for role in roles_of(pair).values()] == ["up", "down"]
