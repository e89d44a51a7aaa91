"""Where heads lie, seen from outside: changing the weights of a head changes its own output and no other head's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from hf_langcore.architecture import bare_weights
from hf_langcore.errors import UnsupportedModelError
from hf_langcore.heads import HeadGroup, attention_heads
from hf_langcore.masks.groups import Slab, part_of

SHAPE = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0}
WIDE = {**SHAPE, "intermediate_size": 24, "num_key_value_heads": 2}
MODELS = {
    "llama": lambda: transformers.LlamaConfig(**WIDE),
    "llama with many key-value heads": lambda: transformers.LlamaConfig(**{**WIDE, "num_key_value_heads": 4}),
    "llama with one key-value head": lambda: transformers.LlamaConfig(**{**WIDE, "num_key_value_heads": 1}),
    "qwen2 with biases": lambda: transformers.Qwen2Config(**WIDE),
    "qwen3 with long heads": lambda: transformers.Qwen3Config(**WIDE, head_dim=16),
    "gemma3 with long heads": lambda: transformers.Gemma3TextConfig(**WIDE, head_dim=16, query_pre_attn_scalar=16),
    "phi3, fused": lambda: transformers.Phi3Config(**WIDE),
    "phi, dense": lambda: transformers.PhiConfig(**WIDE),
    "gpt2, fused and transposed": lambda: transformers.GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4),
    "gpt-j": lambda: transformers.GPTJConfig(vocab_size=60, n_embd=32, n_layer=2, n_head=4, rotary_dim=4),
    "gpt-neox, interleaved": lambda: transformers.GPTNeoXConfig(**SHAPE, intermediate_size=24),
    "bloom, interleaved": lambda: transformers.BloomConfig(vocab_size=60, hidden_size=32, n_layer=2, n_head=4),
    "opt": lambda: transformers.OPTConfig(**SHAPE, ffn_dim=24, word_embed_proj_dim=32),
}
OUTPUTS = ("o_proj", "out_proj", "c_proj", "dense")


def build(config: Any) -> Any:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    return model


def head_outputs(model: Any, layer: int) -> torch.Tensor:
    """What the output projection of a layer reads, before heads are mixed: (tokens, inputs)."""
    owners = {
        name: weight.owner
        for name, weight in bare_weights(model).items()
        if f".{layer}." in name and name.split(".")[-2] in OUTPUTS and name.endswith("weight") and ".mlp." not in name
    }
    (owner,) = owners.values()
    seen: list[torch.Tensor] = []
    handle = owner.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().flatten(0, -2).clone()))
    with torch.no_grad():
        model(input_ids=torch.arange(3, 23)[None])
    handle.remove()
    return seen[0]


def changed_columns(model: Any, group: HeadGroup, slabs: list[Slab]) -> set[int]:
    """Which inputs of the output projection change when these weights, the output projection's own apart, do."""
    before = head_outputs(model, group.layer)
    kept = {}
    with torch.no_grad():
        for slab in slabs:
            parameter = model.get_parameter(slab.parameter)
            kept.setdefault(slab.parameter, parameter.detach().clone())
            if slab.parameter.split(".")[-2] not in OUTPUTS:
                part_of(parameter, slab).add_(torch.randn_like(part_of(parameter, slab)))
        after = head_outputs(model, group.layer)
        for name, values in kept.items():
            model.get_parameter(name).copy_(values)
    return set((before != after).any(0).nonzero().view(-1).tolist())


def output_columns(slabs: Any) -> set[int]:
    return {
        index for slab in slabs if slab.parameter.split(".")[-2] in OUTPUTS for index in range(slab.start, slab.stop)
    }


@pytest.mark.parametrize("kind", MODELS)
def test_a_head_is_what_decides_its_output(kind: str) -> None:
    """Rows of queries, keys and values change the head's columns of the output projection, all of them and no others."""
    model = build(MODELS[kind]())
    groups = attention_heads(model)
    shared = getattr(model.config, "num_key_value_heads", None) or 4
    assert [(group.layer, group.index) for group in groups] == [(i, k) for i in range(2) for k in range(shared)]
    assert [head for group in groups[:shared] for head in group.queries] == list(range(4))
    for group in groups[1 : shared + 1]:
        mine = output_columns(group.slabs)
        assert len(mine) == head_outputs(model, group.layer).shape[1] // shared
        assert changed_columns(model, group, list(group.slabs)) == mine
        if group.shared:
            assert changed_columns(model, group, list(group.shared)) == mine
        head, slabs = next(iter(group.queries.items()))
        assert changed_columns(model, group, list(slabs)) == output_columns(slabs)
        assert head // (4 // shared) == group.index


@pytest.mark.parametrize("kind", MODELS)
def test_heads_share_no_weight_and_leave_none_out(kind: str) -> None:
    """Every row of the projections of queries, keys and values, their biases, and every column of the output's."""
    model = build(MODELS[kind]())
    counts = {name: torch.zeros(parameter.shape) for name, parameter in model.named_parameters()}
    for group in attention_heads(model):
        for slab in group.slabs:
            part_of(counts[slab.parameter], slab).add_(1)
    whole = {name for name, count in counts.items() if (count == 1).all()}
    assert all((count == 0).all() for name, count in counts.items() if name not in whole)
    inside = ("q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn", "query_key_value")
    expected = {name for name in counts if name.split(".")[-2] in inside}
    expected |= {
        name for name in counts if name.split(".")[-2] in OUTPUTS and name.endswith("weight") and ".mlp." not in name
    }
    assert whole == expected


def test_through_an_adapter_names_are_those_of_the_base(llama: Any) -> None:
    """Wrapping changes nothing."""
    from peft import LoraConfig, get_peft_model

    plain = attention_heads(llama)
    assert attention_heads(get_peft_model(llama, LoraConfig(r=2, target_modules=["q_proj", "o_proj"]))) == plain


def test_encoders_and_decoders_have_heads_in_both() -> None:
    """T5's attentions are found by their short names, self-attention and cross-attention."""
    config = transformers.T5Config(vocab_size=60, d_model=16, d_kv=4, d_ff=8, num_layers=1, num_heads=4)
    groups = attention_heads(transformers.T5ForConditionalGeneration(config))
    assert len(groups) == 3 * 4
    assert len({slab.parameter for group in groups for slab in group.slabs}) == 3 * 4


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            transformers.FalconConfig(vocab_size=60, hidden_size=32, num_hidden_layers=1, num_attention_heads=4),
            "attention",
        ),
        (transformers.CodeGenConfig(vocab_size=60, n_embd=32, n_layer=1, n_head=4, rotary_dim=4), "qkv_proj"),
        (transformers.GPTBigCodeConfig(vocab_size=60, n_embd=32, n_layer=1, n_head=4, multi_query=False), "c_attn"),
        (transformers.MambaConfig(vocab_size=60, hidden_size=16, num_hidden_layers=1), "num_attention_heads is None"),
    ],
    ids=["falcon", "codegen", "bigcode", "mamba"],
)
def test_unknown_layouts_are_refused(config: Any, message: str) -> None:
    """The same names with another order of rows would be silently wrong."""
    with pytest.raises(UnsupportedModelError, match=rf"{message}.*rows, columns or layers instead"):
        attention_heads(build(config))
