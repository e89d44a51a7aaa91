"""Which weights a model has, under which names, however it is wrapped."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as t
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch import nn

from hf_langcore.architecture import (
    Weight,
    aliases,
    bare_weights,
    decoder_weights,
    find_weight,
    require_editable,
    unwrap,
)
from hf_langcore.errors import InputError, UnsupportedModelError

SMALL = {"vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA_LIKE = {**SMALL, "intermediate_size": 40, "num_key_value_heads": 2}
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def _of(model: Any, config: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    return model(config(**{**SPECIAL, **options})).eval()


BUILDERS: dict[str, Callable[[], Any]] = {
    "llama": lambda: _of(t.LlamaForCausalLM, t.LlamaConfig, **LLAMA_LIKE),
    "llama-tied": lambda: _of(t.LlamaForCausalLM, t.LlamaConfig, **LLAMA_LIKE, tie_word_embeddings=True),
    "gpt2": lambda: _of(t.GPT2LMHeadModel, t.GPT2Config, vocab_size=61, n_embd=24, n_layer=2, n_head=4),
    "opt": lambda: _of(t.OPTForCausalLM, t.OPTConfig, **SMALL, ffn_dim=40, word_embed_proj_dim=24),
    "neox": lambda: _of(t.GPTNeoXForCausalLM, t.GPTNeoXConfig, **SMALL, intermediate_size=40),
    "qwen3": lambda: _of(t.Qwen3ForCausalLM, t.Qwen3Config, **LLAMA_LIKE, head_dim=8),
    "gemma3": lambda: _of(t.Gemma3ForCausalLM, t.Gemma3TextConfig, **LLAMA_LIKE, head_dim=8),
    "mixtral": lambda: _of(t.MixtralForCausalLM, t.MixtralConfig, **LLAMA_LIKE, num_local_experts=2),
}
# prefix of the layers, tensors in each layer, what is tied to the embeddings
EXPECTED = {
    "llama": ("model.layers", 9, None),
    "llama-tied": ("model.layers", 9, "model.embed_tokens.weight"),
    "gpt2": ("transformer.h", 12, "transformer.wte.weight"),
    "opt": ("model.decoder.layers", 16, "model.decoder.embed_tokens.weight"),
    "neox": ("gpt_neox.layers", 12, None),
    "qwen3": ("model.layers", 11, None),
    "gemma3": ("model.layers", 13, "model.embed_tokens.weight"),
    "mixtral": ("model.layers", 9, None),
}


@pytest.fixture(params=list(BUILDERS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def built(kind: str) -> Any:
    return BUILDERS[kind]()


class Wrapper(nn.Module):
    """Looks like DistributedDataParallel: one child called `module`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def lora(model: nn.Module, **options: Any) -> Any:
    config = LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM", **options)
    with warnings.catch_warnings():  # PEFT turns fan_in_fan_out on for GPT-2 and looks for experts in vain
        warnings.simplefilter("ignore")
        return get_peft_model(model, config)


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


def test_decoder_weights_are_all_tensors_of_the_layers(built: Any, kind: str) -> None:
    """Norms and biases included, nothing of embeddings, final norm and head; the parameters themselves, once each."""
    prefix, per_layer, _ = EXPECTED[kind]
    weights = decoder_weights(built)
    expected = {name: one for name, one in built.named_parameters() if name.startswith(f"{prefix}.")}
    assert weights.keys() == expected.keys()
    assert len(weights) == 2 * per_layer
    assert all(re.match(rf"{re.escape(prefix)}\.[01]\.", name) for name in weights)
    assert all(weight.parameter is expected[name] for name, weight in weights.items())
    assert all(getattr(weight.owner, name.rsplit(".", 1)[-1]) is expected[name] for name, weight in weights.items())


def test_bare_weights_are_named_parameters(built: Any) -> None:
    """Same names, same order, same parameters as in PyTorch."""
    expected = dict(built.named_parameters())
    found = bare_weights(built)
    assert list(found) == list(expected)
    assert all(found[name].parameter is parameter for name, parameter in expected.items())


def test_second_names_of_tied_weights(built: Any, kind: str) -> None:
    """The head's name stands for the embeddings where both are one tensor."""
    tied = EXPECTED[kind][2]
    assert aliases(built) == ({"lm_head.weight": tied} if tied else {})


@pytest.mark.parametrize("wrap", [lora, compiled, Wrapper, lambda model: Wrapper(compiled(lora(model)))])
def test_wrappers_change_no_names(built: Any, wrap: Callable[[Any], Any]) -> None:
    """PEFT, torch.compile, DDP and all of them at once: names and parameters of the bare model, no adapters."""
    before, second = dict(built.named_parameters()), aliases(built)
    wrapped = wrap(built)
    assert unwrap(wrapped) is built
    assert aliases(wrapped) == second
    found = bare_weights(wrapped)
    assert list(found) == list(before)
    assert all(found[name].parameter is parameter for name, parameter in before.items())
    assert decoder_weights(wrapped).keys() == decoder_weights(built).keys()


def test_other_ways_of_having_adapters(llama: Any) -> None:
    """Prompt tuning, transformers' own add_adapter, and modules that are trained as a whole."""
    names = list(dict(llama.named_parameters()))
    prompt = get_peft_model(llama, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    assert list(bare_weights(prompt)) == names
    whole = lora(llama, modules_to_save=["lm_head", "embed_tokens"])
    assert list(bare_weights(whole)) == names
    chosen = decoder_weights(whole, include=("embeddings", "lm_head"))
    assert {"model.embed_tokens.weight", "lm_head.weight"} <= chosen.keys()
    own = BUILDERS["llama"]()
    names = list(dict(own.named_parameters()))
    own.add_adapter(LoraConfig(target_modules=["q_proj"]))
    assert list(bare_weights(own)) == names


@pytest.mark.parametrize("part", ["model", "model.layers.0", "lm_head"])
def test_compiled_parts_change_no_names(llama: Any, part: str) -> None:
    """People compile the decoder alone, or every layer; the weights keep their names and are all found."""
    names, decoder = list(dict(llama.named_parameters())), list(decoder_weights(llama))
    parent = llama.get_submodule(part.rpartition(".")[0])
    setattr(parent, part.rpartition(".")[2], compiled(llama.get_submodule(part)))
    assert list(bare_weights(llama)) == names
    assert list(decoder_weights(llama)) == decoder


def test_experts_are_one_tensor() -> None:
    """Mixtral keeps all experts of a layer in one 3-D parameter that is no module's `.weight`."""
    model = BUILDERS["mixtral"]()
    experts = find_weight(model, "model.layers.0.mlp.experts.gate_up_proj")
    assert tuple(experts.parameter.shape) == (2, 80, 24)
    assert not experts.is_transposed
    assert experts.gain_offset == 0.0


def test_orientation(llama: Any, gpt2: Any) -> None:
    """GPT-2 stores its matrices transposed; biases and norms have no orientation."""
    fused = find_weight(gpt2, "transformer.h.0.attn.c_attn")
    assert fused.is_transposed
    assert (fused.storage_axis(0), fused.storage_axis(1)) == (1, 0)
    assert fused.parameter.shape[fused.storage_axis(0)] == 3 * 32  # outputs: queries, keys and values
    for weight in (find_weight(gpt2, "transformer.h.0.attn.c_attn.bias"), find_weight(llama, "lm_head")):
        assert (weight.is_transposed, weight.storage_axis(0), weight.storage_axis(1)) == (False, 0, 1)


def test_gain_offsets(built: Any, kind: str) -> None:
    """Gemma multiplies by 1 + weight, all others by the weight; matrices and biases have no gain."""
    for name, weight in bare_weights(built).items():
        is_gain = weight.parameter.dim() == 1 and name.endswith(".weight")
        assert weight.gain_offset == (1.0 if kind == "gemma3" and is_gain else 0.0), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gain_offsets_in_half_precision(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rounding of the norm's output does not hide the offset."""
    monkeypatch.setattr("hf_langcore.architecture._GAIN_OFFSETS", {})
    assert find_weight(BUILDERS["gemma3"]().to(dtype), "model.norm").gain_offset == 1.0
    assert find_weight(BUILDERS["llama"]().to(dtype), "model.norm").gain_offset == 0.0


def test_gain_offsets_do_not_depend_on_the_first_model_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model on the meta device, or one whose gains are all zero, is measured as any other."""
    monkeypatch.setattr("hf_langcore.architecture._GAIN_OFFSETS", {})
    assert find_weight(BUILDERS["gemma3"]().to("meta"), "model.norm").gain_offset == 1.0
    monkeypatch.setattr("hf_langcore.architecture._GAIN_OFFSETS", {})
    model = BUILDERS["llama"]()
    nn.init.zeros_(model.model.norm.weight)
    assert find_weight(model, "model.norm").gain_offset == 0.0
    assert not model.model.norm.weight.any()


class Gated(nn.LayerNorm):
    """A norm that wants a second input."""

    def forward(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * gate


def test_norms_that_cannot_be_asked_have_no_offset() -> None:
    """Gated norms multiply by the weight."""
    assert bare_weights(nn.ModuleDict({"norm": Gated(4)}))["norm.weight"].gain_offset == 0.0


def test_embeddings_and_head_on_request(llama: Any) -> None:
    """Each by its own word, and never unasked."""
    extra = {"model.embed_tokens.weight", "lm_head.weight"}
    layers = decoder_weights(llama).keys()
    assert decoder_weights(llama, include=("embeddings", "lm_head")).keys() - layers == extra
    assert decoder_weights(lora(llama), include=("lm_head",)).keys() - layers == {"lm_head.weight"}
    with pytest.raises(InputError, match=r"include takes \['embeddings', 'lm_head'\], got 'head'"):
        decoder_weights(llama, include=("head",))  # type: ignore[arg-type]


def test_a_tied_head_is_not_a_weight_of_its_own(gpt2: Any) -> None:
    """The embeddings stand for both."""
    assert "transformer.wte.weight" in decoder_weights(gpt2, include=("embeddings",))
    with pytest.raises(UnsupportedModelError, match=r"lm_head weight is tied.*stands for both"):
        decoder_weights(gpt2, include=("lm_head",))


def test_a_model_without_a_head() -> None:
    """The bare decoder has layers and no head."""
    model = BUILDERS["llama"]().model
    assert len(decoder_weights(model)) == 18
    with pytest.raises(UnsupportedModelError, match="LlamaModel has no lm_head weight"):
        decoder_weights(model, include=("lm_head",))


@pytest.mark.parametrize(
    "model", [nn.Linear(2, 2), nn.ModuleDict({"norms": nn.ModuleList([nn.LayerNorm(3)])})], ids=["flat", "norms"]
)
def test_models_without_layers_are_refused(model: nn.Module) -> None:
    """A list counts only with matrices in it."""
    with pytest.raises(UnsupportedModelError, match="has no list of decoder layers"):
        decoder_weights(model)


class TwoTowers(nn.Module):
    """A vision tower beside a language model, as in multimodal models."""

    def __init__(self, *, is_encoder_decoder: bool = False) -> None:
        super().__init__()
        self.vision = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(3, 3)])})
        self.language = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(3, 3)])})
        self.config = t.PretrainedConfig(is_encoder_decoder=is_encoder_decoder)

    def get_decoder(self) -> nn.Module:
        return self.language


def test_of_two_towers_the_language_model_counts() -> None:
    """Unless both belong to one encoder-decoder model."""
    assert list(decoder_weights(TwoTowers())) == ["language.layers.0.weight", "language.layers.0.bias"]
    assert len(decoder_weights(TwoTowers(is_encoder_decoder=True))) == 4


def test_find_weight(llama: Any) -> None:
    """By its full name or by its module, wrapped or not."""
    name = "model.layers.1.mlp.up_proj.weight"
    for model in (llama, lora(llama), compiled(llama)):
        for asked in (name, name.removesuffix(".weight")):
            found = find_weight(model, asked)
            assert (found.name, tuple(found.parameter.shape)) == (name, (48, 32))


def test_wrong_names_get_near_ones(llama: Any, gpt2: Any) -> None:
    """Misspelt names are answered with real ones; a projection that is fused is explained."""
    with pytest.raises(InputError, match=r"no parameter 'model\.layers\.0\.input_layernrm'.*'.*0\.input_layernorm'"):
        find_weight(llama, "model.layers.0.input_layernrm")
    with pytest.raises(InputError, match=r"Nearest names: none\. Use a name .* of the bare model\.$"):
        find_weight(llama, "###")
    with pytest.raises(InputError, match=r"may fuse several projections.*c_attn"):
        find_weight(gpt2, "transformer.h.0.attn.q_proj.weight")


@pytest.mark.parametrize("name", ["lm_head", "lm_head.weight"])
def test_tied_names_are_refused(gpt2: Any, name: str) -> None:
    """An edit of the head would change the embeddings too, which is for the caller to say."""
    with pytest.raises(UnsupportedModelError, match=r"'lm_head.weight' is tied to 'transformer.wte.weight'"):
        find_weight(gpt2, name)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_quantised_weights_are_refused(llama: Any, dtype: torch.dtype) -> None:
    """Integers and float8 are codes with a scale elsewhere, not values."""
    quantised = nn.Parameter(torch.zeros(48, 32).to(dtype), requires_grad=False)
    llama.model.layers[0].mlp.up_proj.weight = quantised
    with pytest.raises(UnsupportedModelError, match=rf"up_proj.weight' has dtype {dtype}: it is quantised"):
        decoder_weights(llama)
    found = decoder_weights(llama, quantized=True)
    assert [name for name, weight in found.items() if weight.is_quantized] == ["model.layers.0.mlp.up_proj.weight"]


def test_shapes_are_those_of_checkpoints(llama: Any, gpt2: Any) -> None:
    """Packed weights, also in floats, and those of a Conv1D, which quantisation turns round."""
    weights = bare_weights(gpt2)
    assert all(weight.shape == tuple(weight.parameter.shape) for weight in weights.values())
    packed = nn.Parameter(torch.zeros(768, 1, dtype=torch.bfloat16), requires_grad=False)
    packed.quant_state = SimpleNamespace(shape=torch.Size([48, 32]))  # type: ignore[attr-defined]
    owner = llama.model.layers[0].mlp.up_proj
    owner.weight = packed
    weight = Weight("up_proj.weight", packed, owner)
    assert (weight.shape, weight.is_quantized, weight.is_transposed) == ((48, 32), True, False)
    with pytest.raises(UnsupportedModelError, match=r"has dtype torch.bfloat16: it is quantised"):
        require_editable(weight)
    owner.source_cls = type(gpt2.transformer.h[0].mlp.c_fc)
    assert (weight.shape, weight.is_transposed, weight.storage_axis(0)) == ((32, 48), True, 1)


def test_weights_without_values_are_refused(llama: Any) -> None:
    """The meta device holds shapes only."""
    with pytest.raises(UnsupportedModelError, match="is on the meta device"):
        decoder_weights(llama.to("meta"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_ordinary_weights_are_editable(llama: Any, dtype: torch.dtype) -> None:
    """Every floating dtype that holds values."""
    for weight in bare_weights(llama.to(dtype)).values():
        require_editable(weight)


def test_include_takes_one_name_or_several(llama: Any) -> None:
    """A single name need not be wrapped in a tuple; a wrong one is named whole."""
    assert list(decoder_weights(llama, include="embeddings")) == list(decoder_weights(llama, include=("embeddings",)))
    with pytest.raises(InputError, match="'embedding'"):
        decoder_weights(llama, include="embedding")  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["my/model", None, {"w": 1}])
def test_what_is_no_model_is_named(wrong: Any) -> None:
    """A name instead of a loaded model gets an error that says how to load it."""
    with pytest.raises(InputError, match="from_pretrained"):
        decoder_weights(wrong)
