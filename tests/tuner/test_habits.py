"""What users of PEFT do with an adapter, with every architecture and a core of random or of the largest weights.

The largest weights are never zero, so a merge that loses the sign of zeros passes with such a core; random ones show it.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from torch import nn
from transformers.pytorch_utils import Conv1D

from hf_langcore.architecture import bare_weights
from hf_langcore.errors import ConfigurationError, LangCoreError, UnsupportedModelError
from hf_langcore.masks import CoreMask
from hf_langcore.tuner import CoreRegionConfig
from hf_langcore.tuner.layer import CoreRegionLayer, tuner_layers

Wrap = Callable[..., Any]
Bits = dict[str, torch.Tensor]

pytestmark = [
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
    pytest.mark.filterwarnings("ignore:Model with `tie_word_embeddings=True`"),
    pytest.mark.filterwarnings("ignore:Input and output embeddings are no longer tied"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`"),
]

# Linear layers, Conv1D, embeddings (tied ones in three models, scaled ones in Gemma) and stacks of experts.
TARGETS: dict[str, dict[str, Any]] = {
    "llama": {"target_modules": ["q_proj", "v_proj", "down_proj", "embed_tokens"]},
    "llama-tied": {"target_modules": ["k_proj", "up_proj", "embed_tokens"]},
    "gpt2": {"target_modules": ["c_attn", "c_proj", "wpe", "wte"]},
    "opt": {"target_modules": ["q_proj", "fc1", "fc2", "embed_tokens"]},
    "qwen3": {"target_modules": "all-linear"},
    "gemma3": {"target_modules": ["o_proj", "gate_proj", "embed_tokens"]},
    "gpt-neox": {"target_modules": ["query_key_value", "dense_4h_to_h", "embed_in"]},
    "mixtral": {
        "target_modules": ["q_proj", "o_proj"],
        "target_parameters": ["experts.gate_up_proj", "experts.down_proj"],
    },
}


@dataclass(frozen=True)
class Case:
    """One architecture with one kind of mask."""

    kind: str
    which: str
    build: Wrap
    full_mask: Wrap
    decoder_mask: Wrap

    def base(self) -> Any:
        """The model, with -0.0 among its weights, which a sum with 0.0 would change."""
        model = self.build(self.kind)
        with torch.no_grad():
            for weight in bare_weights(model).values():
                weight.parameter.view(-1)[3::7] = -0.0
        return model

    def mask(self, seed: int = 0) -> CoreMask:
        """A mask over everything; another one for every seed, whatever its kind."""
        mask: CoreMask = self.full_mask(self.base(), self.which, fraction=0.2 + 0.05 * seed, seed=seed)
        return mask

    def config(self, seed: int = 0, **options: Any) -> CoreRegionConfig:
        rest = {"r": 4, "init_weights": False, "task_type": "CAUSAL_LM", **TARGETS[self.kind], **options}
        return CoreRegionConfig(**{"core_mask": self.mask(seed), **rest})

    def wrapped(self, base: Any = None, seed: int = 0, **options: Any) -> Any:
        model = get_peft_model(self.base() if base is None else base, self.config(seed, **options))
        return model.eval()

    def decoder_only(self, **options: Any) -> Any:
        """A model of which nothing outside the decoder layers is adapted or core."""
        names = {"target_modules": None if self.kind != "mixtral" else ["q_proj", "v_proj"], "target_parameters": None}
        base = self.base()
        return self.wrapped(base, core_mask=self.decoder_mask(base, self.which), **{**names, **options})


@pytest.fixture(params=[(kind, which) for kind in TARGETS for which in ("random", "top")], ids="-".join)
def case(request: pytest.FixtureRequest, build_model: Wrap, make_full_mask: Wrap, make_mask: Wrap) -> Case:
    return Case(*request.param, build_model, make_full_mask, make_mask)


@pytest.fixture(params=list(TARGETS))
def random_case(request: pytest.FixtureRequest, build_model: Wrap, make_full_mask: Wrap, make_mask: Wrap) -> Case:
    """For what does not depend on where the core is."""
    return Case(request.param, "random", build_model, make_full_mask, make_mask)


def _same(one: Bits, other: Bits) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def _require_core_kept(before: Bits, after: Bits, mask: CoreMask, model: nn.Module) -> None:
    """Core entries of adapted weights are the same bits, other weights are the same as a whole, and all adapted ones changed."""
    tied = {name: name for name in before}
    untied = [name for name in after if name not in before]
    tables = [name for name in before if after[name].shape == (61, 24)]
    for name in untied:  # the second user of a tied table has a name of its own while the first one's copy is merged
        assert torch.equal(after[name], before[tables[0]]), name
    adapted = {id(layer.adapted) for layer in tuner_layers(model)}
    names = {name for name, weight in bare_weights(model).items() if id(weight.parameter) in adapted}
    assert names
    for name in tied:
        differs = before[name] != after[name]
        assert bool(differs.any()) == (name in names), name
        assert name not in names or not differs[mask[name]].any(), name


def test_merging(case: Case, tokens: torch.Tensor, logits: Wrap, snapshot: Callable[..., Bits]) -> None:
    """Merged, the model computes the same around the same core bits; unmerged and disabled it is the base, bit for bit."""
    base = case.base()
    plain, before = logits(base, tokens), snapshot(base)
    model = case.wrapped(base)
    adapted = logits(model, tokens)
    assert not torch.allclose(adapted, plain, atol=1e-3)
    model.merge_adapter(safe_merge=True)
    torch.testing.assert_close(logits(model, tokens), adapted, rtol=1e-4, atol=1e-4)
    merged = snapshot(model)
    _require_core_kept(before, merged, case.mask(), model)
    with pytest.warns(UserWarning, match="All adapters are already merged"):
        model.merge_adapter()
    assert _same(snapshot(model), merged)
    model.unmerge_adapter()
    assert _same(snapshot(model), before)
    assert torch.equal(logits(model, tokens), adapted)
    model.merge_adapter()
    assert _same(snapshot(model), merged)
    with model.disable_adapter():
        assert torch.equal(logits(model, tokens), plain)
    assert _same(snapshot(model), before)


def test_broken_adapters_are_not_merged(case: Case, snapshot: Callable[..., Bits]) -> None:
    """safe_merge finds NaN and infinity in any adapter weight, and what was merged by then can be unmerged."""
    base = case.base()
    before = snapshot(base)
    model = case.wrapped(base)
    last = list(tuner_layers(model))[-1]
    for value in (float("nan"), float("inf")):
        last.core_region_A["default"].data.view(-1)[0] = value
        with pytest.raises(ValueError, match="NaNs detected in the merged weights") as caught:
            model.merge_adapter(safe_merge=True)
        assert isinstance(caught.value, LangCoreError)
        assert not last.merged
        for layer in tuner_layers(model):
            if layer.merged:
                layer.unmerge()
        assert _same(snapshot(model), before)
    with pytest.raises(ValueError, match="NaNs detected"):
        model.merge_and_unload(safe_merge=True)


def test_status(random_case: Case) -> None:
    """PEFT's reports of layers and model know the adapters, what is merged, active and trainable."""
    model = random_case.wrapped()
    model.add_adapter("second", random_case.config(1))
    status = model.get_model_status()
    assert (status.peft_types["second"], status.enabled, status.active_adapters) == ("CORE_REGION", True, ["default"])
    assert status.available_adapters == ["default", "second"]
    assert (status.merged_adapters, status.requires_grad) == ([], {"default": True, "second": False})
    assert status.num_adapter_layers == len(list(tuner_layers(model))) == len(model.get_layer_status())
    model.merge_adapter(["second"])
    assert model.get_model_status().merged_adapters == ["second"]
    model.unmerge_adapter()
    model.set_adapter("second", inference_mode=True)
    assert model.get_model_status().requires_grad == {"default": False, "second": False}
    assert not any(parameter.requires_grad for parameter in model.parameters())
    model.set_requires_grad("second")
    assert model.get_model_status().requires_grad == {"default": False, "second": True}


def test_unloading(case: Case, tokens: torch.Tensor, logits: Wrap, snapshot: Callable[..., Bits]) -> None:
    """Unload gives the base, merge_and_unload the merged model; both are plain models again."""
    base = case.base()
    names = [(name, type(module)) for name, module in base.named_modules()]
    plain, before = logits(base, tokens), snapshot(base)
    model = case.wrapped(base)
    adapted = logits(model, tokens)
    merged = copy.deepcopy(model).merge_and_unload()
    torch.testing.assert_close(logits(merged, tokens), adapted, rtol=1e-4, atol=1e-4)
    bare = model.unload()
    assert torch.equal(logits(bare, tokens), plain)
    assert _same(snapshot(bare), before)
    for one in (merged, bare):
        assert [(name, type(module)) for name, module in one.named_modules()] == names
        assert not any("core_region" in name or "base_layer" in name for name in one.state_dict())


def test_several_adapters(case: Case, tokens: torch.Tensor, logits: Wrap, snapshot: Callable[..., Bits]) -> None:
    """A second adapter with another core: each alone is itself, together they keep off both cores, merged in any order."""
    base = case.base()
    before = snapshot(base)
    model = case.wrapped(base)
    first = logits(model, tokens)
    model.add_adapter("second", case.config(1, r=0))
    assert torch.equal(logits(model, tokens), first)
    model.set_adapter("second")
    second = logits(model, tokens)
    assert not torch.allclose(first, second, atol=1e-3)
    model.base_model.set_adapter(["default", "second"])
    union = case.mask() | case.mask(1)
    assert model.core_mask == union
    both = logits(model, tokens)
    model.merge_adapter()
    torch.testing.assert_close(logits(model, tokens), both, rtol=1e-4, atol=1e-4)
    together = snapshot(model)
    _require_core_kept(before, together, union, model)
    model.unmerge_adapter()
    model.merge_adapter(["default"])
    with pytest.warns(UserWarning, match="Already following adapters were merged default"):
        model.merge_adapter(["second"])
    assert _same(snapshot(model), together)
    model.unmerge_adapter()
    assert _same(snapshot(model), before)
    for name, expected in (("default", first), ("second", second)):
        model.set_adapter(name)
        assert torch.equal(logits(model, tokens), expected)


@pytest.mark.parametrize("deleted", ["active", "inactive"])
def test_deleting(deleted: str, case: Case, tokens: torch.Tensor, logits: Wrap) -> None:
    """A deleted adapter leaves nothing; if it was active, the other one becomes so."""
    model = case.wrapped()
    model.add_adapter("second", case.config(1))
    model.set_adapter("second")
    second = logits(model, tokens)
    if deleted == "active":
        model.set_adapter("default")
        with pytest.warns(UserWarning, match="Setting active adapter to second"):
            model.delete_adapter("default")
    else:
        model.delete_adapter("default")
    assert list(model.peft_config) == ["second"]
    assert not any(".default" in name for name in model.state_dict())
    assert all(layer.active_adapters == ["second"] for layer in tuner_layers(model))
    assert torch.equal(logits(model, tokens), second)
    with pytest.raises(ValueError, match="does not exist"):
        model.delete_adapter("default")


def test_saving_and_loading(case: Case, tokens: torch.Tensor, logits: Wrap, tmp_path: Path) -> None:
    """All saved adapters, or selected ones, in both file formats, loaded in both ways, give the same function and core."""
    model = case.wrapped()
    model.add_adapter("second", case.config(1, r=0))
    expected = {}
    for name in ("second", "default"):
        model.set_adapter(name)
        expected[name] = logits(model, tokens)
    model.save_pretrained(str(tmp_path / "both"))
    model.save_pretrained(str(tmp_path / "pickled"), selected_adapters=["second"], safe_serialization=False)
    assert sorted(path.name for path in (tmp_path / "pickled").iterdir()) == ["README.md", "second"]
    assert (tmp_path / "pickled" / "second" / "adapter_model.bin").is_file()
    for low_cpu_mem_usage in (False, True):
        options = {"low_cpu_mem_usage": low_cpu_mem_usage}
        loaded = PeftModel.from_pretrained(case.base(), str(tmp_path / "both"), **options)
        loaded.load_adapter(str(tmp_path / "pickled" / "second"), "second", **options)
        assert not any(parameter.requires_grad for parameter in loaded.parameters())
        for name, seed in (("default", 0), ("second", 1)):
            loaded.set_adapter(name)
            assert torch.equal(logits(loaded, tokens), expected[name])
            assert loaded.core_mask == case.mask(seed)
    loaded = PeftModel.from_pretrained(case.base(), str(tmp_path / "both" / "second"), is_trainable=True)
    assert torch.equal(logits(loaded, tokens), expected["second"])
    trainable = [name for name, parameter in loaded.named_parameters() if parameter.requires_grad]
    assert trainable
    assert all("core_region_" in name for name in trainable)


def test_training(case: Case, tokens: torch.Tensor, train: Wrap, snapshot: Callable[..., Bits]) -> None:
    """Steps of AdamW with weight decay lower the loss and change all adapter weights, and nothing else."""
    base = case.base()
    before = snapshot(base)
    model = case.wrapped(base, init_weights=True, lora_alpha=16, lora_dropout=0.0)
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    losses = train(model, tokens, steps=5)
    assert losses[-1] < losses[0]
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, start[name])}
    assert changed == {name for name in start if "core_region_" in name}
    assert _same(snapshot(model), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits(dtype: torch.dtype, random_case: Case, tokens: torch.Tensor, logits: Wrap) -> None:
    """Adapters are float32 on a 16-bit base unless that is switched off; either way it computes, trains and merges."""
    case = random_case
    for autocast in (True, False):
        base = case.base().to(dtype)
        model = get_peft_model(base, case.config(), autocast_adapter_dtype=autocast).eval()
        expected = torch.float32 if autocast else dtype
        assert {parameter.dtype for parameter in model.parameters() if parameter.requires_grad} == {expected}
        output = logits(model, tokens)
        assert output.dtype == dtype
        assert output.isfinite().all()
        model(tokens, labels=tokens).loss.backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
        assert all(gradient.dtype == expected and gradient.isfinite().all() for gradient in gradients)
        model.merge_adapter()
        torch.testing.assert_close(logits(model, tokens), output, rtol=0.1, atol=0.05)
        assert all(layer.core_region_mask["default"].dtype == torch.uint8 for layer in tuner_layers(model))


def test_autocast(random_case: Case, tokens: torch.Tensor) -> None:
    """Under autocast a float32 model gives about the same outputs, and its adapters get float32 gradients."""
    model = random_case.wrapped()
    exact = model(tokens).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = model(tokens, labels=tokens)
    torch.testing.assert_close(result.logits.float(), exact, rtol=0.1, atol=0.05)
    result.loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    assert all(gradient.dtype == torch.float32 and (gradient != 0).any() for gradient in gradients)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing(use_reentrant: bool, random_case: Case, tokens: torch.Tensor) -> None:
    """Training with activations recomputed gives the gradients of training without."""
    model = random_case.wrapped().train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):  # OPT
            module.dropout = 0.0
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    plain = torch.autograd.grad(model(tokens, labels=tokens, use_cache=False).loss, parameters)
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
    model(tokens, labels=tokens, use_cache=False).loss.backward()
    for one, parameter in zip(plain, parameters, strict=True):
        torch.testing.assert_close(parameter.grad, one, rtol=1e-4, atol=1e-6)


class Three(nn.Module):
    """One layer of each kind that compiles without a break."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.linear, self.conv = nn.Embedding(61, 8), nn.Linear(8, 6), Conv1D(5, 6)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.conv(torch.tanh(self.linear(self.table(tokens))))
        return output


def _require_same_when_compiled(model: Any, run: Callable[[Any], torch.Tensor], *, fullgraph: bool) -> None:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert parameters
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=fullgraph)
    eager, traced = run(model), run(compiled)
    torch.testing.assert_close(traced, eager, rtol=1e-4, atol=1e-5)
    ours, theirs = (torch.autograd.grad(output.square().mean(), parameters) for output in (eager, traced))
    for one, other in zip(ours, theirs, strict=True):
        assert (one != 0).any()
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-6)


def test_compiling_layers(tokens: torch.Tensor) -> None:
    """torch.compile takes layers of three kinds in one graph, with a low-rank, a dense and both adapters."""
    options = {"method": "random", "fraction": 0.3, "target_modules": ["table", "linear", "conv"]}
    model = get_peft_model(Three(), CoreRegionConfig(**options, r=3, init_weights=False))
    model.add_adapter("second", CoreRegionConfig(**options, r=0, mask_seed=1, init_weights=False))
    for names in (["default"], ["second"], ["default", "second"]):
        model.base_model.set_adapter(names)
        _require_same_when_compiled(model, lambda one: one(tokens), fullgraph=True)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo looks, after a break
@pytest.mark.parametrize("kind", ["llama", "mixtral"])
def test_compiling_models(
    kind: str, build_model: Wrap, make_full_mask: Wrap, make_mask: Wrap, tokens: torch.Tensor
) -> None:
    """A compiled model gives the same outputs and gradients; only stacks of experts, as in LoRA, break the graph."""
    base = build_model(kind)
    base.model.layers = base.model.layers[:1]
    mask: CoreMask = make_full_mask(base)
    config = CoreRegionConfig(core_mask=mask, init_weights=False, **TARGETS[kind])
    model = get_peft_model(base, config).eval()
    _require_same_when_compiled(model, lambda one: one(tokens, use_cache=False).logits, fullgraph=kind == "llama")


def test_the_methods_of_transformers(case: Case, tokens: torch.Tensor, logits: Wrap, tmp_path: Path) -> None:
    """add_adapter, set_adapter, disable_adapters, save_pretrained, load_adapter and delete_adapter of a plain model."""
    model = case.base()
    plain = logits(model, tokens)
    model.add_adapter(case.config(), "first")
    first = logits(model, tokens)
    with pytest.warns(UserWarning, match="multiple adapters"):
        model.add_adapter(case.config(1), "second")
    assert model.active_adapters() == ["second"]
    second = logits(model, tokens)
    assert not torch.allclose(first, second, atol=1e-3)
    model.disable_adapters()
    assert torch.equal(logits(model, tokens), plain)
    model.enable_adapters()
    for name, expected in (("second", second), ("first", first)):
        model.set_adapter(name)
        assert torch.equal(logits(model, tokens), expected)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "core_mask.safetensors").is_file()
    assert not (tmp_path / "model.safetensors").exists()
    other = case.base()
    other.load_adapter(str(tmp_path), adapter_name="loaded")
    assert torch.equal(logits(other, tokens), first)
    masks = [(layer.core_mask("loaded"), layer.adapted) for layer in tuner_layers(other)]
    names = {id(weight.parameter): name for name, weight in bare_weights(other).items()}
    assert all(torch.equal(mask, case.mask()[names[id(parameter)]]) for mask, parameter in masks)
    model.delete_adapter("second")
    assert torch.equal(logits(model, tokens), first)
    model.delete_adapter("first")
    assert torch.equal(logits(model, tokens), plain)


def test_injecting(case: Case, tokens: torch.Tensor, logits: Wrap) -> None:
    """inject_adapter_in_model adapts a model in place; its state dict brings weights and core into another one."""
    config = case.config()
    model = inject_adapter_in_model(config, case.base())
    expected = logits(model, tokens)
    state = get_peft_model_state_dict(model)
    assert all("core_region_" in key or "base_layer" in key for key in state)
    other = inject_adapter_in_model(case.config(init_weights=True), case.base())
    assert not torch.allclose(logits(other, tokens), expected, atol=1e-3)
    result = set_peft_model_state_dict(other, state)
    assert not result.unexpected_keys
    assert torch.equal(logits(other, tokens), expected)
    assert not any("core_region" in key for key in result.missing_keys)


@pytest.mark.parametrize("given", ["config", "state dict"])
def test_injecting_without_memory(given: str, random_case: Case, tokens: torch.Tensor, logits: Wrap) -> None:
    """With low_cpu_mem_usage an adapter has no values before its state dict comes, and all of them afterwards."""
    case = random_case
    model = inject_adapter_in_model(case.config(), case.base())
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    options = {"state_dict": state} if given == "state dict" else {}
    if options and "target_parameters" in TARGETS[case.kind]:
        with pytest.raises(ValueError, match="inject a PEFT adapter from a state_dict but the PEFT config uses"):
            inject_adapter_in_model(case.config(), case.base(), low_cpu_mem_usage=True, **options)
        return
    other = inject_adapter_in_model(case.config(), case.base(), low_cpu_mem_usage=True, **options)
    numbers = [parameter for name, parameter in other.named_parameters() if "core_region_" in name]
    assert all(parameter.is_meta for parameter in numbers)
    result = set_peft_model_state_dict(other, state, low_cpu_mem_usage=True)
    assert not result.unexpected_keys
    assert torch.equal(logits(other, tokens), logits(model, tokens))
    for ours, theirs in zip(tuner_layers(other), tuner_layers(model), strict=True):
        assert torch.equal(ours.core_mask("default"), theirs.core_mask("default"))


@pytest.mark.filterwarnings("ignore:Passing a tuple of `past_key_values`")
def test_generating(random_case: Case, tokens: torch.Tensor) -> None:
    """Generate takes its inputs by position or by name, and the adapter plays a part in it."""
    model = random_case.wrapped(lora_alpha=200)
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    by_name = model.generate(input_ids=tokens, **options)
    assert torch.equal(model.generate(tokens, **options), by_name)
    assert by_name.shape == (2, 14)
    model.merge_adapter()
    assert torch.equal(model.generate(tokens, **options), by_name)
    with model.disable_adapter():
        assert not torch.equal(model.generate(tokens, **options), by_name)


def test_inputs_as_embeddings(random_case: Case, tokens: torch.Tensor, logits: Wrap) -> None:
    """Embeddings that are looked up outside give the same outputs, with the adapter's change of the table in them."""
    model = random_case.wrapped()
    with torch.no_grad():
        rows = model.get_input_embeddings()(tokens)
        torch.testing.assert_close(model(inputs_embeds=rows).logits, logits(model, tokens))


def test_layers_to_transform(random_case: Case, tokens: torch.Tensor, train: Wrap) -> None:
    """Only the second layer is adapted, and can be trained."""
    model = random_case.decoder_only(layers_to_transform=[1])
    keys = [key for key, module in model.named_modules() if isinstance(module, CoreRegionLayer)]
    assert keys
    assert all(".1." in key for key in keys)
    assert train(model, tokens, steps=2)[-1] > 0


def test_modules_to_save(
    random_case: Case, tokens: torch.Tensor, train: Wrap, logits: Wrap, snapshot: Callable[..., Bits], tmp_path: Path
) -> None:
    """A head that is trained in full is trained, saved, loaded, merged in and switched off with the adapter."""
    case = random_case
    head = "embed_out" if hasattr(case.base(), "embed_out") else "lm_head"
    plain, before = logits(case.base(), tokens), snapshot(case.base())
    model = case.decoder_only(modules_to_save=[head])
    start = {name: value.detach().clone() for name, value in model.named_parameters() if "modules_to_save" in name}
    assert start
    train(model, tokens, steps=2)
    assert all(not torch.equal(value, start[name]) for name, value in model.named_parameters() if name in start)
    trained = logits(model, tokens)
    with model.disable_adapter():
        assert torch.equal(logits(model, tokens), plain)
    assert _same(snapshot(model), before)
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(case.base(), str(tmp_path))
    assert torch.equal(logits(loaded, tokens), trained)
    torch.testing.assert_close(logits(loaded.merge_and_unload(), tokens), trained, rtol=1e-4, atol=1e-4)


def test_trainable_tokens(
    random_case: Case, tokens: torch.Tensor, train: Wrap, logits: Wrap, snapshot: Callable[..., Bits], tmp_path: Path
) -> None:
    """Rows of the embeddings are trained beside the adapter; merged, no other row of the table has changed."""
    case = random_case
    rows = [1, 5]
    before = snapshot(case.base())
    model = case.decoder_only(trainable_token_indices=rows)
    train(model, tokens, steps=3)
    trained = logits(model, tokens)
    assert _same(snapshot(model), before)
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(case.base(), str(tmp_path))
    torch.testing.assert_close(logits(loaded, tokens), trained)
    merged = model.merge_and_unload()
    torch.testing.assert_close(logits(merged, tokens), trained, rtol=1e-4, atol=1e-4)
    table = merged.get_input_embeddings().weight
    name = next(name for name, weight in bare_weights(case.base()).items() if weight.parameter.shape == table.shape)
    differs = (snapshot(merged)[name] != before[name]).any(1)
    assert differs.nonzero().flatten().tolist() == rows


def test_rank_stabilised_and_patterned_adapters(random_case: Case, tokens: torch.Tensor, logits: Wrap) -> None:
    """use_rslora with other ranks for some layers computes what it merges, and scales by alpha / sqrt(r)."""
    model = random_case.decoder_only(use_rslora=True, rank_pattern={r".*\.1\..*": 9}, alpha_pattern={r".*\.0\..*": 2})
    layers = {key: module for key, module in model.named_modules() if isinstance(module, CoreRegionLayer)}
    assert {(layer.r["default"], layer.scaling["default"]) for layer in layers.values()} == {(4, 1.0), (9, 8 / 3)}
    adapted = logits(model, tokens)
    model.merge_adapter()
    torch.testing.assert_close(logits(model, tokens), adapted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("merged", [False, True])
def test_copies(merged: bool, random_case: Case, tokens: torch.Tensor, logits: Wrap) -> None:
    """Deepcopies and pickles, also of merged models, have the same function and can be unmerged for themselves."""
    base = random_case.base()
    plain = logits(base, tokens)
    model = random_case.wrapped(base)
    expected = logits(model, tokens)
    if merged:
        model.merge_adapter()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301 made on this line
        if merged:
            other.unmerge_adapter()
        assert torch.equal(logits(other, tokens), expected)
        assert other.core_mask == model.core_mask
        with other.disable_adapter():
            assert torch.equal(logits(other, tokens), plain)
    assert all(layer.merged == merged for layer in tuner_layers(model))


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`", "ignore:You are trying to modify a model")
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
def test_other_methods_on_the_same_layers_are_refused(random_case: Case, tokens: torch.Tensor, logits: Wrap) -> None:
    """A LoRA is in the way on the same layers, and merged also elsewhere; unmerged on other layers both act."""
    case = random_case
    first, second = case.decoder_only().base_model.targeted_module_names[:2]
    base = case.base()
    plain = logits(base, tokens)
    get_peft_model(base, LoraConfig(target_modules=[first], init_lora_weights=False)).eval()
    lora_only = logits(base, tokens)
    options = {"core_mask": case.mask(), "init_weights": False, "r": 0}
    with pytest.raises(UnsupportedModelError, match="adapters of two PEFT methods"):
        get_peft_model(base, CoreRegionConfig(target_modules=[first], **options))
    assert torch.equal(logits(base, tokens), lora_only)
    model = get_peft_model(base, CoreRegionConfig(target_modules=[second], **options))
    assert not torch.allclose(logits(model, tokens), lora_only, atol=1e-4)
    with model.disable_adapter():
        assert torch.equal(logits(model, tokens), plain)
    merged = case.base()
    get_peft_model(merged, LoraConfig(target_modules=[first], init_lora_weights=False)).merge_adapter()
    with pytest.raises(ConfigurationError, match="unmerge_adapter"):
        get_peft_model(merged, CoreRegionConfig(target_modules=[second], **options))
