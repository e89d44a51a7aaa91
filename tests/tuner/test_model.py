from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    AutoPeftModelForCausalLM,
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from torch import nn
from transformers import AutoModelForCausalLM

from hf_langcore.architecture import bare_weights
from hf_langcore.errors import ConfigurationError, CoreMaskMismatchError, InputError
from hf_langcore.masks import CoreMask, Provenance
from hf_langcore.tuner import CoreRegionConfig, CoreRegionModel

Wrap = Callable[..., Any]
Bits = dict[str, torch.Tensor]


def _logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(tokens).logits
    return logits


def _train(model: nn.Module, tokens: torch.Tensor, steps: int = 3) -> None:
    model.train()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=0.02, weight_decay=0.1)
    for _ in range(steps):
        model(tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def _require_core_kept(before: Bits, after: Bits, mask: CoreMask) -> None:
    """Core entries are the same bits; every weight tensor outside the mask is the same as a whole."""
    assert set(before) == set(after)
    changed = 0
    for name, old in before.items():
        same = old == after[name]
        protected = mask[name] if name in mask else torch.ones_like(same)
        assert same[protected].all(), name
        changed += int((~same).sum())
    assert changed


@pytest.mark.parametrize("which", ["top", "random"])
@pytest.mark.parametrize("rank", [4, 0])
def test_training_and_merging_keep_the_core(
    which: str, rank: int, any_model: Any, make_mask: Wrap, tokens: torch.Tensor, snapshot: Callable[..., Bits]
) -> None:
    """After steps of AdamW with weight decay and a merge, each core weight has the bits that it had before."""
    mask = make_mask(any_model, which)
    before = snapshot(any_model)
    model = get_peft_model(any_model, CoreRegionConfig(core_mask=mask, r=rank, lora_dropout=0.1))
    start = _logits(model, tokens)
    _train(model, tokens)
    trained = _logits(model, tokens)
    assert not torch.allclose(start, trained)
    merged = model.merge_and_unload(safe_merge=True)
    torch.testing.assert_close(_logits(merged, tokens), trained, rtol=1e-4, atol=1e-4)
    _require_core_kept(before, snapshot(merged), mask)
    assert not any("core_region" in name for name in merged.state_dict())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_sixteen_bit_bases(
    kind: str,
    dtype: torch.dtype,
    build_model: Wrap,
    make_mask: Wrap,
    make_wrapped: Wrap,
    tokens: torch.Tensor,
    plant: Wrap,
    snapshot: Callable[..., Bits],
) -> None:
    """Adapters are float32, the base stays 16-bit, planted -0.0 and NaN in the core survive a merge, unmerge is exact."""
    base = build_model(kind).to(dtype)
    mask = make_mask(base, "random")
    name = next(name for name in mask if name.endswith(("up_proj.weight", "c_fc.weight")))
    core = mask[name]
    core.view(-1)[[3, 5]] = True
    mask = CoreMask({**mask, name: core})
    model = make_wrapped(base, mask)
    assert {parameter.dtype for parameter in model.parameters() if parameter.requires_grad} == {torch.float32}
    assert _logits(model, tokens).dtype == dtype
    plant(bare_weights(model)[name].parameter)
    before = snapshot(model)
    model.merge_adapter()
    _require_core_kept(before, snapshot(model), mask)
    model.unmerge_adapter()
    after = snapshot(model)
    assert all(torch.equal(after[one], before[one]) for one in before)


def test_adapters_may_stay_in_sixteen_bits(build_model: Wrap, make_mask: Wrap, tokens: torch.Tensor) -> None:
    """autocast_adapter_dtype=False keeps the adapter in the base's dtype; bits of the mask are not cast."""
    base = build_model("llama").bfloat16()
    mask = make_mask(base)
    config = CoreRegionConfig(core_mask=mask, init_weights=False)
    model = get_peft_model(base, config, autocast_adapter_dtype=False)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert _logits(model, tokens).isfinite().all()
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(base.model.layers[0].mlp.up_proj.core_mask("default"), mask[name])


def test_only_adapters_are_trainable(llama: Any, make_mask: Wrap) -> None:
    """All trainable parameters are called core_region_*, and there are r (in + out) a layer."""
    model = get_peft_model(llama, CoreRegionConfig(core_mask=make_mask(llama), r=2, target_modules=["up_proj"]))
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert all("core_region_" in name for name in names)
    assert model.get_nb_trainable_parameters()[0] == 2 * 2 * (24 + 40)


def test_protected_weights_are_counted(llama: Any, make_mask: Wrap) -> None:
    """get_nb_protected counts the core in the adapted layers, through the PeftModel, too."""
    mask = make_mask(llama)
    model = get_peft_model(llama, CoreRegionConfig(core_mask=mask, target_modules=["up_proj"]))
    expected = sum(mask.count(name) for name in mask if "up_proj" in name)
    assert model.get_nb_protected() == model.base_model.get_nb_protected() == expected


@pytest.mark.parametrize("method", ["magnitude", "random"])
def test_masks_computed_when_wrapped(method: str, llama: Any, tokens: torch.Tensor) -> None:
    """With method= the mask is made from the weights, and the config holds it from then on."""
    config = CoreRegionConfig(method=method, fraction=0.1, mask_seed=5)
    model = get_peft_model(llama, config)
    assert model.peft_config["default"] is config
    assert isinstance(config.core_mask, CoreMask)
    assert config.method == method
    assert model.core_mask is config.core_mask
    assert model.core_mask.provenance.method == method
    assert 0.09 < model.core_mask.density() <= 0.1


def test_saved_adapters_are_complete(
    any_model: Any, make_mask: Wrap, make_wrapped: Wrap, tokens: torch.Tensor, tmp_path: Path
) -> None:
    """A folder written by PeftModel.save_pretrained gives the same function and the same mask on a fresh base."""
    base = copy.deepcopy(any_model)
    mask = make_mask(any_model, "random")
    model = make_wrapped(any_model, mask, task_type="CAUSAL_LM")
    model.save_pretrained(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "core_mask.safetensors",
        "core_mask_config.json",
    ]
    loaded = PeftModel.from_pretrained(base, str(tmp_path))
    assert torch.equal(_logits(loaded, tokens), _logits(model, tokens))
    assert loaded.core_mask == mask
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_adapters_made_from_a_folder_do_not_need_it(
    build_model: Wrap, make_mask: Wrap, tokens: torch.Tensor, tmp_path: Path
) -> None:
    """A mask named by path travels with the adapter."""
    base = build_model("llama")
    make_mask(base).save_pretrained(tmp_path / "mask")
    config = CoreRegionConfig(core_mask=str(tmp_path / "mask"), init_weights=False)
    model = get_peft_model(base, config)
    model.save_pretrained(str(tmp_path / "adapter"))
    for path in (tmp_path / "mask").iterdir():
        path.unlink()
    loaded = PeftModel.from_pretrained(build_model("llama"), str(tmp_path / "adapter"))
    assert torch.equal(_logits(loaded, tokens), _logits(model, tokens))
    assert loaded.core_mask == model.core_mask


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_loading_for_further_training(
    low_cpu_mem_usage: bool, build_model: Wrap, make_wrapped: Wrap, tokens: torch.Tensor, tmp_path: Path
) -> None:
    """A loaded adapter can be trained on, with its parameters made on the meta device first or not."""
    model = make_wrapped(build_model("llama"))
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(
        build_model("llama"), str(tmp_path), is_trainable=True, low_cpu_mem_usage=low_cpu_mem_usage
    )
    assert torch.equal(_logits(loaded, tokens), _logits(model, tokens))
    _train(loaded, tokens, steps=1)
    assert not torch.equal(_logits(loaded, tokens), _logits(model, tokens))


def test_pickled_weights_load_too(build_model: Wrap, make_wrapped: Wrap, tokens: torch.Tensor, tmp_path: Path) -> None:
    """The older file format of PEFT carries the bits as well."""
    model = make_wrapped(build_model("gpt2"))
    model.save_pretrained(str(tmp_path), safe_serialization=False)
    loaded = PeftModel.from_pretrained(build_model("gpt2"), str(tmp_path))
    assert torch.equal(_logits(loaded, tokens), _logits(model, tokens))


def test_state_dicts_alone_are_enough(build_model: Wrap, make_wrapped: Wrap, tokens: torch.Tensor) -> None:
    """With a config that only describes its mask, the state dict brings weights and bits; before, nothing changes."""
    model = make_wrapped(build_model("llama"))
    state = get_peft_model_state_dict(model)
    values = {**model.peft_config["default"].to_dict(), "inference_mode": True}
    base = build_model("llama")
    plain = _logits(base, tokens)
    other = get_peft_model(base, CoreRegionConfig(**values))
    assert torch.equal(_logits(other, tokens), plain)
    result = set_peft_model_state_dict(other, state)
    assert not result.unexpected_keys
    assert torch.equal(_logits(other, tokens), _logits(model, tokens))
    rebuilt, full = other.core_mask, model.core_mask
    assert set(rebuilt) < set(full)
    assert all(torch.equal(rebuilt[name], full[name]) for name in rebuilt)


def test_weights_of_another_core_are_refused(build_model: Wrap, make_mask: Wrap, make_wrapped: Wrap) -> None:
    """A state dict whose bits contradict the config's mask is an error, and changes nothing."""
    base = build_model("llama")
    model = make_wrapped(base, make_mask(base, "top"))
    other = make_wrapped(build_model("llama"), make_mask(base, "random"))
    before = get_peft_model_state_dict(other)
    with pytest.raises(CoreMaskMismatchError, match="around another core"):
        set_peft_model_state_dict(other, get_peft_model_state_dict(model))
    after = get_peft_model_state_dict(other)
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_a_description_for_a_fresh_adapter_warns(build_model: Wrap, make_wrapped: Wrap, tmp_path: Path) -> None:
    """Training around a mask whose bits never come would change nothing, so a trainable one is warned about."""
    make_wrapped(build_model("llama")).save_pretrained(str(tmp_path))
    config = PeftConfig.from_pretrained(str(tmp_path))
    config.inference_mode = False
    with pytest.warns(UserWarning, match="every weight stays protected"):
        get_peft_model(build_model("llama"), config)


def test_disabling_gives_the_base(llama: Any, make_wrapped: Wrap, tokens: torch.Tensor) -> None:
    """Inside disable_adapter the model is its base, to the bit, and outside the adapter is back."""
    plain = _logits(llama, tokens)
    model = make_wrapped(llama)
    adapted = _logits(model, tokens)
    with model.disable_adapter():
        assert torch.equal(_logits(model, tokens), plain)
    assert torch.equal(_logits(model, tokens), adapted)


def test_unload_gives_the_base(llama: Any, make_wrapped: Wrap, tokens: torch.Tensor) -> None:
    """Unloading without merging leaves the plain model."""
    plain = _logits(llama, tokens)
    base = make_wrapped(llama).unload()
    assert torch.equal(_logits(base, tokens), plain)
    assert not any("core_region" in name for name in base.state_dict())


def test_merge_adapter_and_back(
    llama: Any, make_wrapped: Wrap, tokens: torch.Tensor, snapshot: Callable[..., Bits]
) -> None:
    """merge_adapter gives the same function, unmerge_adapter the same bits."""
    before = snapshot(llama)
    model = make_wrapped(llama)
    adapted = _logits(model, tokens)
    model.merge_adapter()
    torch.testing.assert_close(_logits(model, tokens), adapted)
    model.unmerge_adapter()
    after = snapshot(model)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(_logits(model, tokens), adapted)


def test_several_adapters_with_different_masks(
    build_model: Wrap, make_mask: Wrap, make_wrapped: Wrap, tokens: torch.Tensor, snapshot: Callable[..., Bits]
) -> None:
    """Switching gives each adapter's own function; both together keep off both cores; deleting one leaves the other."""
    base = build_model("llama")
    before = snapshot(base)
    mask_a, mask_b = make_mask(base, "top"), make_mask(base, "random")
    model = make_wrapped(base, mask_a, adapter_name="a")
    alone_a = _logits(model, tokens)
    model.add_adapter("b", CoreRegionConfig(core_mask=mask_b, r=0, init_weights=False))
    assert torch.equal(_logits(model, tokens), alone_a)
    model.set_adapter("b")
    assert model.core_mask is mask_b
    assert not torch.allclose(_logits(model, tokens), alone_a)
    model.base_model.set_adapter(["a", "b"])
    assert model.core_mask == mask_a | mask_b
    both = _logits(model, tokens)
    model.merge_adapter()
    torch.testing.assert_close(_logits(model, tokens), both, rtol=1e-4, atol=1e-4)
    _require_core_kept(before, snapshot(model), mask_a | mask_b)
    model.unmerge_adapter()
    model.set_adapter("a")
    model.delete_adapter("b")
    assert torch.equal(_logits(model, tokens), alone_a)
    assert list(model.peft_config) == ["a"]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_core_of_adapters_with_masks_of_different_tensors(
    kind: str,
    build_model: Wrap,
    make_mask: Wrap,
    make_wrapped: Wrap,
    tokens: torch.Tensor,
    snapshot: Callable[..., Bits],
) -> None:
    """Together they keep off every core; a tensor that one mask covers keeps that mask's bits."""
    base = build_model(kind)
    names = [name for name, value in base.named_parameters() if value.dim() == 2 and (".0." in name or ".1." in name)]
    provenance = Provenance(transposed=tuple(name for name in names if kind == "gpt2" and name.endswith("weight")))
    top, random = (CoreMask(make_mask(base, which), provenance=provenance) for which in ("top", "random"))
    mask_a = top.restricted_to({name for name in top if name not in names[:2]})
    mask_b = random.restricted_to({name for name in random if name not in names[-2:]})
    model = make_wrapped(base, mask_a, adapter_name="a")
    model.add_adapter("b", CoreRegionConfig(core_mask=mask_b, init_weights=False))
    model.base_model.set_adapter(["a", "b"])
    union = model.core_mask
    assert set(union) == set(mask_a) | set(mask_b)
    for name in union:
        covering = [mask[name] for mask in (mask_a, mask_b) if name in mask]
        assert torch.equal(union[name], covering[0] if len(covering) == 1 else covering[0] | covering[1])
    assert set(union.provenance.transposed) == set(provenance.transposed)
    before, logits = snapshot(model), _logits(model, tokens)
    with model.perturb("core"):
        assert not torch.equal(_logits(model, tokens), logits)
    after = snapshot(model)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_several_adapters_are_saved_apart(
    build_model: Wrap, make_mask: Wrap, make_wrapped: Wrap, tokens: torch.Tensor, tmp_path: Path
) -> None:
    """Each adapter has its folder with its own mask and can be loaded beside the other."""
    base = build_model("llama")
    model = make_wrapped(base, make_mask(base, "top"))
    model.add_adapter("b", CoreRegionConfig(core_mask=make_mask(base, "random"), init_weights=False))
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(build_model("llama"), str(tmp_path))
    loaded.load_adapter(str(tmp_path / "b"), "b")
    for name in ("default", "b"):
        model.set_adapter(name)
        loaded.set_adapter(name)
        assert loaded.core_mask == model.core_mask
        assert torch.equal(_logits(loaded, tokens), _logits(model, tokens))


def test_wrapping_an_adapted_transformers_model(llama: Any, make_mask: Wrap, tokens: torch.Tensor) -> None:
    """A mask made from the adapted model's bare names fits: adapters of this method do not hide the weights."""
    llama.add_adapter(CoreRegionConfig(core_mask=make_mask(llama), init_weights=False), "first")
    first = _logits(llama, tokens)
    with pytest.warns(UserWarning, match="multiple adapters"):
        llama.add_adapter(CoreRegionConfig(method="magnitude", fraction=0.1, init_weights=False), "second")
    assert not torch.allclose(_logits(llama, tokens), first)
    llama.set_adapter("first")
    assert torch.equal(_logits(llama, tokens), first)
    llama.delete_adapter("second")
    assert torch.equal(_logits(llama, tokens), first)


def test_transformers_saves_and_loads_adapters(
    saved_base: Path, make_wrapped: Wrap, tokens: torch.Tensor, tmp_path: Path
) -> None:
    """load_adapter and from_pretrained(adapter folder) of transformers give the function and the bits."""
    model = make_wrapped(AutoModelForCausalLM.from_pretrained(saved_base), task_type="CAUSAL_LM")
    model.save_pretrained(str(tmp_path / "adapter"))
    expected = _logits(model, tokens)
    injected = AutoModelForCausalLM.from_pretrained(saved_base)
    injected.load_adapter(str(tmp_path / "adapter"))
    assert torch.equal(_logits(injected, tokens), expected)
    layer = injected.model.layers[0].mlp.up_proj
    assert torch.equal(layer.core_mask("default"), model.core_mask["model.layers.0.mlp.up_proj.weight"])
    assert layer.core_region_mask["default"].dtype == torch.uint8
    injected.save_pretrained(tmp_path / "again")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    assert torch.equal(_logits(again, tokens), expected)
    injected.disable_adapters()
    assert not torch.allclose(_logits(injected, tokens), expected)


def test_auto_peft_model(saved_base: Path, make_wrapped: Wrap, tokens: torch.Tensor, tmp_path: Path) -> None:
    """PEFT finds the base model by the adapter's config."""
    model = make_wrapped(AutoModelForCausalLM.from_pretrained(saved_base), task_type="CAUSAL_LM")
    model.save_pretrained(str(tmp_path / "adapter"))
    loaded = AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "adapter"))
    assert torch.equal(_logits(loaded, tokens), _logits(model, tokens))


def test_injecting_without_a_peft_model(llama: Any, make_mask: Wrap, tokens: torch.Tensor) -> None:
    """PEFT's low-level call adapts the model in place; its layers can be asked for their core."""
    mask = make_mask(llama)
    model = inject_adapter_in_model(CoreRegionConfig(core_mask=mask, init_weights=False), llama)
    layer = model.model.layers[1].mlp.down_proj
    assert torch.equal(layer.core_mask("default"), mask["model.layers.1.mlp.down_proj.weight"])


def test_gradient_checkpointing(llama: Any, make_mask: Wrap, tokens: torch.Tensor) -> None:
    """Training with activations recomputed gives the gradients of training without."""
    model = get_peft_model(llama, CoreRegionConfig(core_mask=make_mask(llama), init_weights=False))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.train()
    plain = torch.autograd.grad(model(tokens, labels=tokens).loss, parameters)
    model.enable_input_require_grads()
    model.activation_checkpointing_enable()
    again = torch.autograd.grad(model(tokens, labels=tokens, use_cache=False).loss, parameters)
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other)


def test_copies_of_a_model_are_independent(llama: Any, make_wrapped: Wrap, tokens: torch.Tensor) -> None:
    """Deepcopy works on wrapped and merged models."""
    model = make_wrapped(llama)
    expected = _logits(model, tokens)
    model.merge_adapter()
    other = copy.deepcopy(model)
    other.unmerge_adapter()
    assert torch.equal(_logits(other, tokens), expected)
    assert model.base_model.model.model.layers[0].mlp.up_proj.merged


def test_the_bare_tuner_saves_the_adapter(
    build_model: Wrap, make_wrapped: Wrap, tokens: torch.Tensor, tmp_path: Path
) -> None:
    """save_pretrained on the tuner writes what it writes on the PeftModel, not the base model's weights."""
    model = make_wrapped(build_model("llama"), task_type="CAUSAL_LM")
    model.base_model.save_pretrained(tmp_path / "tuner")
    model.save_pretrained(str(tmp_path / "peft"))
    files = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("tuner", "peft")]
    assert files[0] == files[1]
    for name in files[0]:
        assert (tmp_path / "tuner" / name).read_bytes() == (tmp_path / "peft" / name).read_bytes()
    loaded = PeftModel.from_pretrained(build_model("llama"), str(tmp_path / "tuner"))
    assert torch.equal(_logits(loaded, tokens), _logits(model, tokens))


def test_the_bare_tuner_pushes_the_adapter(llama: Any, make_wrapped: Wrap, monkeypatch: pytest.MonkeyPatch) -> None:
    """push_to_hub on the tuner goes through PeftModel's, with every option."""
    calls: list[dict[str, Any]] = []

    def push(self: Any, repo_id: str, **options: Any) -> str:
        calls.append({"class": type(self).__name__, "repo_id": repo_id, **options})
        return "url"

    monkeypatch.setattr(PeftModel, "push_to_hub", push)
    tuner = make_wrapped(llama, task_type="CAUSAL_LM").base_model
    assert tuner.push_to_hub("me/adapter", private=True, revision="v1") == "url"
    assert calls[0]["class"] == "PeftModelForCausalLM"
    assert (calls[0]["repo_id"], calls[0]["private"], calls[0]["revision"]) == ("me/adapter", True, "v1")


class TestFrontDoor:
    def test_a_fresh_adapter(self, saved_base: Path, make_mask: Wrap, tokens: torch.Tensor, tmp_path: Path) -> None:
        """With a mask (folder or object) the function is the base's, and the adapter can be trained."""
        base = AutoModelForCausalLM.from_pretrained(saved_base)
        mask = make_mask(base)
        mask.save_pretrained(tmp_path / "mask")
        for source in (mask, tmp_path / "mask", str(tmp_path / "mask")):
            model = CoreRegionModel.from_pretrained(saved_base, core_mask=source)
            assert isinstance(model, PeftModel)
            assert isinstance(model.base_model, CoreRegionModel)
            assert torch.equal(_logits(model, tokens), _logits(base, tokens))
            assert model.core_mask == mask
            assert model.peft_config["default"].r == 8
            assert model.get_nb_trainable_parameters()[0] > 0

    def test_a_trained_adapter(
        self, saved_base: Path, make_wrapped: Wrap, tokens: torch.Tensor, tmp_path: Path
    ) -> None:
        """With an adapter it is loaded, frozen unless it is to be trained on."""
        model = make_wrapped(AutoModelForCausalLM.from_pretrained(saved_base))
        model.save_pretrained(str(tmp_path / "adapter"))
        loaded = CoreRegionModel.from_pretrained(saved_base, adapter=tmp_path / "adapter", adapter_name="mine")
        assert torch.equal(_logits(loaded, tokens), _logits(model, tokens))
        assert list(loaded.peft_config) == ["mine"]
        assert loaded.get_nb_trainable_parameters()[0] == 0
        trainable = CoreRegionModel.from_pretrained(saved_base, adapter=tmp_path / "adapter", is_trainable=True)
        assert trainable.get_nb_trainable_parameters()[0] > 0

    def test_dtype_and_base_check(self, saved_base: Path, make_mask: Wrap) -> None:
        """The dtype is the base's; the fingerprint check can be set."""
        mask = make_mask(AutoModelForCausalLM.from_pretrained(saved_base))
        model = CoreRegionModel.from_pretrained(saved_base, core_mask=mask, dtype=torch.bfloat16, base_check="warn")
        assert model.get_base_model().dtype == torch.bfloat16
        assert model.peft_config["default"].base_check == "warn"

    def test_exactly_one_source(self, saved_base: Path) -> None:
        """Both or neither is an error, before the model is loaded."""
        with pytest.raises(ConfigurationError, match="got neither"):
            CoreRegionModel.from_pretrained("no/model")
        with pytest.raises(ConfigurationError, match="got both"):
            CoreRegionModel.from_pretrained("no/model", core_mask="a", adapter="b")

    def test_adapters_of_other_methods(self, saved_base: Path, tmp_path: Path) -> None:
        """A LoRA is refused with a pointer to PEFT."""
        lora = get_peft_model(AutoModelForCausalLM.from_pretrained(saved_base), LoraConfig(target_modules=["q_proj"]))
        lora.save_pretrained(str(tmp_path / "lora"))
        with pytest.raises(InputError, match=r"method .*LORA"):
            CoreRegionModel.from_pretrained(saved_base, adapter=tmp_path / "lora")


def test_no_active_adapter(llama: Any, make_wrapped: Wrap) -> None:
    """Without an active adapter there is no core to speak of; the error is not hidden by attribute forwarding."""
    model = make_wrapped(llama)
    model.base_model.set_adapter([])
    with pytest.raises(InputError, match="No adapter is active"):
        _ = model.core_mask


def test_adapters_are_added_by_peft_only(llama: Any, make_wrapped: Wrap) -> None:
    """Replacing a module past the checks is refused."""
    model = make_wrapped(llama)
    layer = llama.model.layers[0].mlp.up_proj
    with pytest.raises(InputError, match="get_peft_model"):
        model.base_model._create_and_replace(CoreRegionConfig(), "x", layer, "up_proj", llama, "up_proj")


def test_ordinary_use_is_silent(build_model: Wrap, make_mask: Wrap, tokens: torch.Tensor, tmp_path: Path) -> None:
    """Wrapping, training, saving, loading and merging give no warning of ours."""
    base = build_model("gpt2")
    mask = make_mask(base)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
        model = get_peft_model(base, CoreRegionConfig(core_mask=mask, task_type="CAUSAL_LM"))
        _train(model, tokens, steps=1)
        model.save_pretrained(str(tmp_path))
        PeftModel.from_pretrained(build_model("gpt2"), str(tmp_path)).merge_and_unload()
