from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn

from hf_langcore.errors import InputError, UnsupportedModelError
from hf_langcore.exchange.feed_forward import check_parts, feed_forwards
from hf_langcore.exchange.names import Parameters

LLAMA = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
BLOOM = {"hidden_size": 16, "n_layer": 2, "n_head": 2}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2}
GPTJ = {**GPT2, "rotary_dim": 4}
OPT = {**LLAMA, "ffn_dim": 24, "word_embed_proj_dim": 16, "max_position_embeddings": 16}
XGLM = {"d_model": 16, "ffn_dim": 24, "num_layers": 2, "attention_heads": 2}
MPT = {"d_model": 16, "n_layers": 2, "n_heads": 2}
MOE = {**LLAMA, "num_key_value_heads": 2, "num_local_experts": 2}


def build(kind: str, **options: Any) -> Any:
    config = getattr(transformers, f"{kind}Config")
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config(vocab_size=30, **{**special, **options})).eval()


@pytest.mark.parametrize(
    ("kind", "options", "neurons"),
    [
        ("Llama", LLAMA, 24),
        ("Gemma", {**LLAMA, "head_dim": 8, "num_key_value_heads": 2}, 24),
        ("Phi3", LLAMA, 24),
        ("Glm", {**LLAMA, "head_dim": 8, "num_key_value_heads": 1}, 24),
        ("GPT2", GPT2, 64),
        ("GPTBigCode", GPT2, 64),
        ("GPTNeoX", LLAMA, 24),
        ("Bloom", BLOOM, 64),
        ("Falcon", {**LLAMA, "ffn_hidden_size": 64}, 64),
        ("OPT", OPT, 24),
        ("Phi", LLAMA, 24),
        ("XGLM", XGLM, 24),
        ("GPTJ", GPTJ, 64),
        ("Mpt", MPT, 64),
        ("Nemotron", {**LLAMA, "num_key_value_heads": 2}, 24),
    ],
)
def test_a_neuron_is_what_its_activation_needs(kind: str, options: dict[str, Any], neurons: int) -> None:
    """Zeroing the rows of neurons, or their columns, gives what zeroing their activations gives."""
    model = build(kind, **options)
    found = feed_forwards(Parameters(model))
    assert [layer.neurons for layer in found] == [neurons] * 2
    chosen = [1, 5, neurons - 1]
    tokens = torch.arange(3, 11)[None]

    def silence(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (arguments[0].index_fill(-1, torch.tensor(chosen), 0.0), *arguments[1:])

    hooks = [model.get_submodule(layer.output.name[:-7]).register_forward_pre_hook(silence) for layer in found]
    with torch.no_grad():
        expected = model(tokens).logits
        for hook in hooks:
            hook.remove()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        assert not torch.allclose(model(tokens).logits, expected, atol=1e-7)
        for part in ("rows", "columns"):
            for layer in found:
                for slab in (one for neuron in chosen for one in layer.slabs(neuron, (part,))):
                    model.get_parameter(slab.parameter).narrow(slab.axis, slab.start, 1).zero_()
            torch.testing.assert_close(model(tokens).logits, expected, rtol=1e-4, atol=1e-6)
            model.load_state_dict(before)


def test_parts() -> None:
    layer = feed_forwards(Parameters(build("Phi3", **LLAMA)))[1]
    prefix = "model.layers.1.mlp"
    assert [(slab.parameter, slab.axis, slab.start, slab.stop) for slab in layer.slabs(3, ("rows", "columns"))] == [
        (f"{prefix}.gate_up_proj.weight", 0, 3, 4),
        (f"{prefix}.gate_up_proj.weight", 0, 27, 28),
        (f"{prefix}.down_proj.weight", 1, 3, 4),
    ]
    assert [weight.name for weight in layer.weights(("columns",))] == [f"{prefix}.down_proj.weight"]
    assert check_parts("rows") == ("rows",)
    for bad in ("row", (), ["rows", "biases"]):
        with pytest.raises(InputError, match="parts names"):
            check_parts(bad)


@pytest.mark.parametrize("kind", ["Mixtral", "Qwen2Moe", "GptOss"])
def test_experts_are_refused(kind: str) -> None:
    options = {**MOE, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8, "num_experts": 2}
    options |= {"head_dim": 8} if kind == "GptOss" else {}
    with torch.device("meta"), pytest.raises(UnsupportedModelError, match="mixture of experts"):
        feed_forwards(Parameters(build(kind, **options)))


def test_models_without_known_matrices_are_refused() -> None:
    with torch.device("meta"):
        mamba = build("Mamba", hidden_size=16, num_hidden_layers=2, state_size=4)
    with pytest.raises(UnsupportedModelError, match=r"'backbone\.layers\.0' of MambaForCausalLM are not known"):
        feed_forwards(Parameters(mamba))
    with pytest.raises(UnsupportedModelError, match="no numbered decoder layers"):
        feed_forwards(Parameters(nn.Linear(2, 2)))
    t5 = transformers.T5Config(vocab_size=30, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2)
    with torch.device("meta"), pytest.raises(UnsupportedModelError, match="an encoder and a decoder"):
        feed_forwards(Parameters(transformers.T5ForConditionalGeneration(t5)))


def test_sizes_have_to_fit_together() -> None:
    model = build("Llama", **LLAMA)
    model.model.layers[1].mlp.down_proj = nn.Linear(20, 16, bias=False)
    with pytest.raises(UnsupportedModelError, match=r"model\.layers\.1"):
        feed_forwards(Parameters(model))


def test_other_towers_are_left_alone() -> None:
    """Of a model with two stacks the decoder is taken where the model says which it is."""

    class TwoTowers(nn.Module):
        def __init__(self, *, knows: bool) -> None:
            super().__init__()
            self.vision = build("Llama", **LLAMA).model
            self.text = build("Llama", **LLAMA).model
            if knows:
                self.get_decoder = lambda: self.text

    found = feed_forwards(Parameters(TwoTowers(knows=True)))
    assert [layer.output.name for layer in found] == [f"text.layers.{i}.mlp.down_proj.weight" for i in (0, 1)]
    with pytest.raises(UnsupportedModelError, match="several stacks"):
        feed_forwards(Parameters(TwoTowers(knows=False)))
