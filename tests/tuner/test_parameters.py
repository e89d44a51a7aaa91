from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrize

from hf_langcore.architecture import bare_weights
from hf_langcore.errors import ConfigurationError, CoreMaskMismatchError, InputError, UnsupportedModelError
from hf_langcore.masks import CoreMask, PackedBits
from hf_langcore.tuner import CoreRegionConfig, CoreRegionLinear
from hf_langcore.tuner.merging import BrokenAdapterError
from hf_langcore.tuner.parameters import ParamWrapper

Wrap = Callable[..., Any]
Bits = dict[str, torch.Tensor]

EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]
MIXTURES = pytest.mark.parametrize("kind", ["mixtral", "qwen3-moe", "gpt-oss"])
RANKS = pytest.mark.parametrize("rank", [3, 0])


def _wrapped(base: Any, mask: CoreMask, **options: Any) -> Any:
    config = {"target_parameters": EXPERTS, "r": 3, "lora_alpha": 6, "init_weights": False, **options}
    return get_peft_model(base, CoreRegionConfig(core_mask=mask, **config))


def _wrappers(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, ParamWrapper)]


def _name(wrapper: Any, model: Any) -> str:
    """Name of the adapted parameter in the bare model."""
    return next(name for name, weight in bare_weights(model).items() if weight.parameter is wrapper.adapted)


def _effective(wrapper: Any, core: torch.Tensor, name: str = "default") -> torch.Tensor:
    """where(core, W, W + change), spelled out expert by expert."""
    stored = wrapper.adapted.detach()
    matrices = []
    for expert in range(len(stored)):
        if wrapper.r[name] == 0:
            change = wrapper.core_region_delta[name][expert]
        else:
            a, b = wrapper.core_region_A[name][expert], wrapper.core_region_B[name][expert]
            change = wrapper.scaling[name] * (b @ a)
            change = change.T if wrapper.fan_in_fan_out else change
        matrices.append(torch.where(core[expert], stored[expert], stored[expert] + change))
    return torch.stack(matrices)


@MIXTURES
@RANKS
@pytest.mark.parametrize("fraction", [0.3, 0.03])
def test_experts_compute_with_their_effective_values(
    kind: str, rank: int, fraction: float, build_model: Wrap, make_mask: Wrap, tokens: torch.Tensor
) -> None:
    """Outputs and gradients are those of the bare model with the formula's values in place of the experts."""
    base = build_model(kind)
    plain = copy.deepcopy(base)
    mask = make_mask(base, "random", fraction=fraction)
    model = _wrapped(base, mask, r=rank)
    wrappers = _wrappers(model)
    assert len(wrappers) == 4
    assert {wrapper.fan_in_fan_out for wrapper in wrappers} == {kind == "gpt-oss"}
    names = [_name(wrapper, model) for wrapper in wrappers]
    values = {name: _effective(wrapper, mask[name]) for name, wrapper in zip(names, wrappers, strict=True)}
    expected = functional_call(plain, values, (tokens,)).logits
    logits = model(tokens).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert len(parameters) == (8 if rank else 4)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    ours = torch.autograd.grad((logits * weights).sum(), parameters)
    theirs = torch.autograd.grad((expected * weights).sum(), parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    assert all(gradient.abs().sum() > 0 for gradient in ours)


def test_a_matrix_is_adapted_as_by_a_linear_layer(bits: Callable[..., Any]) -> None:
    """A linear layer's weight, targeted as a parameter, gives what the targeted layer gives, also merged."""
    torch.manual_seed(0)
    base = nn.Linear(7, 5)
    core = PackedBits.from_bool(torch.rand(5, 7) < 0.4)
    config = CoreRegionConfig(r=3, lora_alpha=6, init_weights=False)
    linear: Any = CoreRegionLinear(copy.deepcopy(base), "default", core, config=config)
    wrapper: Any = ParamWrapper(copy.deepcopy(base), "default", core, parameter_name="weight", config=config)
    wrapper.core_region_A["default"].data = linear.core_region_A["default"].data
    wrapper.core_region_B["default"].data = linear.core_region_B["default"].data
    x = torch.randn(3, 7)
    torch.testing.assert_close(wrapper(x), linear(x))
    for layer in (wrapper, linear):
        layer.merge()
    assert torch.equal(bits(wrapper.base_layer.weight), bits(linear.base_layer.weight))


class Table(nn.Module):
    """A matrix that is no layer's weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.matrix = nn.Parameter(torch.randn(4, 6))
        self.fails = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.fails:
            raise RuntimeError("stopped")
        return x @ self.matrix.T


def _table(**options: Any) -> tuple[Any, CoreMask]:
    model = nn.Sequential(Table(), nn.Linear(4, 2))
    mask = CoreMask({"0.matrix": torch.rand(4, 6, generator=torch.Generator().manual_seed(1)) < 0.4})
    return _wrapped(model, mask, target_parameters=["0.matrix"], **options), mask


@RANKS
def test_the_parameter_reads_as_the_stored_one(rank: int, bits: Callable[..., Any]) -> None:
    """The effective value is there while the module runs and not after, even if it fails; the bits stay."""
    model, _ = _table(r=rank)
    table = model.base_model.model[0].base_layer
    stored = table.matrix
    before = bits(stored)
    x = torch.randn(3, 6)
    inside = []
    table.register_forward_pre_hook(lambda module, args: inside.extend([module.matrix, module.matrix]))
    adapted = model(x)
    assert inside[0] is inside[1]  # computed once, however often the module reads it
    assert not torch.equal(inside[0], stored)
    table.fails = True
    with pytest.raises(RuntimeError, match="stopped"):
        model(x)
    table.fails = False
    assert type(table) is Table
    assert table.matrix is stored
    assert not stored.requires_grad
    assert torch.equal(bits(stored), before)
    assert list(table.state_dict()) == ["matrix"]
    assert torch.equal(model(x), adapted)


def test_parameters_keep_their_order(build_model: Wrap, make_mask: Wrap, tokens: torch.Tensor, logits: Wrap) -> None:
    """Using the model does not change the order of its parameters, by which saved optimizer states find them."""
    base = build_model("gpt-oss")
    before = [name for name, _ in base.named_parameters()]
    model = _wrapped(base, make_mask(base))
    logits(model, tokens)
    model.merge_adapter()
    assert [name for name, _ in model.unload().named_parameters()] == before


def test_training_changes_adapters_only(
    build_model: Wrap, make_mask: Wrap, tokens: torch.Tensor, train: Wrap, snapshot: Callable[..., Bits]
) -> None:
    """An adapter of the experts learns, alone and beside linear layers, while no bit of the base changes."""
    base = build_model("mixtral")
    before = snapshot(base)
    for names in (None, ["q_proj", "v_proj"]):
        fresh = copy.deepcopy(base)
        options = {"target_modules": names, "target_parameters": EXPERTS, "lora_alpha": 32}
        model = get_peft_model(fresh, CoreRegionConfig(core_mask=make_mask(base), **options))
        assert sum(type(module) is CoreRegionLinear for module in model.modules()) == (4 if names else 0)
        losses = train(model, tokens, steps=4, lr=0.05)
        assert losses[-1] < losses[0]
        after = snapshot(model)
        assert all(torch.equal(after[name], before[name]) for name in before)


@RANKS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_merging_keeps_every_bit_of_the_core(
    rank: int, dtype: torch.dtype, build_model: Wrap, make_mask: Wrap, plant: Wrap, snapshot: Callable[..., Bits]
) -> None:
    """Merged core entries of all experts are the same bits, also -0.0 and NaN, and unmerging restores every bit."""
    base = build_model("mixtral").to(dtype)
    mask = make_mask(base, "random")
    name = "model.layers.0.mlp.experts.down_proj"
    core = mask[name]
    core.view(-1)[[3, 5, 7, 14]] = True
    mask = CoreMask({**mask, name: core})
    plant(bare_weights(base)[name].parameter)
    before = snapshot(base)
    model = _wrapped(base, mask, r=rank)
    model.merge_adapter()
    after = snapshot(model)
    changed = {key: (after[key] != before[key]) for key in before}
    for key, where in changed.items():
        is_target = key.endswith(tuple(EXPERTS))
        assert bool(where.any()) == is_target, key
        assert not is_target or not where[mask[key]].any(), key
    model.unmerge_adapter()
    after = snapshot(model)
    assert all(torch.equal(after[key], before[key]) for key in before)


@MIXTURES
def test_merged_outputs_are_the_same(
    kind: str, build_model: Wrap, make_mask: Wrap, tokens: torch.Tensor, logits: Wrap
) -> None:
    """Merged, unmerged, disabled and unloaded models compute what they should; nothing of the wrappers is left."""
    base = build_model(kind)
    plain = logits(base, tokens)
    kept = copy.deepcopy(base)
    model = _wrapped(base, make_mask(base))
    adapted = logits(model, tokens)
    assert not torch.allclose(adapted, plain, atol=1e-4)
    model.merge_adapter(safe_merge=True)
    torch.testing.assert_close(logits(model, tokens), adapted, rtol=1e-4, atol=1e-5)
    with model.disable_adapter():
        assert torch.equal(logits(model, tokens), plain)
    torch.testing.assert_close(logits(model, tokens), adapted, rtol=1e-4, atol=1e-5)
    merged = copy.deepcopy(model).merge_and_unload()
    torch.testing.assert_close(logits(merged, tokens), adapted, rtol=1e-4, atol=1e-5)
    bare = model.unload()
    assert torch.equal(logits(bare, tokens), plain)
    for one in (merged, bare):
        assert [name for name, _ in one.named_modules()] == [name for name, _ in kept.named_modules()]


def test_safe_merge_refuses_broken_adapters(
    build_model: Wrap, make_mask: Wrap, tokens: torch.Tensor, snapshot: Callable[..., Bits]
) -> None:
    """A NaN in one expert's adapter is found before that tensor is written; the others can be unmerged."""
    base = build_model("mixtral")
    before = snapshot(base)
    model = _wrapped(base, make_mask(base))
    last = _wrappers(model)[-1]
    last.core_region_A["default"].data[2, 0, 0] = float("nan")
    with pytest.raises(BrokenAdapterError, match="NaNs detected"):
        model.merge_adapter(safe_merge=True)
    assert [wrapper.merged for wrapper in _wrappers(model)].count(False) == 1
    with pytest.warns(UserWarning, match="Already unmerged"):
        model.unmerge_adapter()
    after = snapshot(model)
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_a_second_adapter_uses_the_same_wrappers(
    build_model: Wrap, make_mask: Wrap, tokens: torch.Tensor, logits: Wrap, snapshot: Callable[..., Bits]
) -> None:
    """Two adapters share the wrappers, each has its own core, and both together keep off the union."""
    base = build_model("mixtral")
    before = snapshot(base)
    masks = {"default": make_mask(base, "top"), "b": make_mask(base, "random")}
    model = _wrapped(base, masks["default"])
    alone = logits(model, tokens)
    config = CoreRegionConfig(core_mask=masks["b"], target_parameters=EXPERTS[::-1], r=0, init_weights=False)
    model.add_adapter("b", config)
    wrappers = _wrappers(model)
    assert len(wrappers) == 4
    for wrapper in wrappers:
        assert {name: torch.equal(wrapper.core_mask(name), masks[name][_name(wrapper, model)]) for name in masks} == {
            "default": True,
            "b": True,
        }
    assert torch.equal(logits(model, tokens), alone)
    model.base_model.set_adapter(["default", "b"])
    both = logits(model, tokens)
    assert not torch.allclose(both, alone)
    model.merge_adapter()
    torch.testing.assert_close(logits(model, tokens), both, rtol=1e-4, atol=1e-5)
    union = masks["default"] | masks["b"]
    after = snapshot(model)
    assert not any((after[key] != before[key])[union[key]].any() for key in union)
    model.unmerge_adapter()
    model.set_adapter("default")
    model.delete_adapter("b")
    assert torch.equal(logits(model, tokens), alone)


def test_a_second_adapter_of_other_parameters_is_refused(build_model: Wrap, make_mask: Wrap) -> None:
    """Other parameters, or none, would nest the wrappers in another order; the model keeps its one adapter."""
    base = build_model("mixtral")
    model = _wrapped(base, make_mask(base))
    others: list[dict[str, Any]] = [{"target_parameters": EXPERTS[:1]}, {"target_modules": ["q_proj"]}]
    for options in others:
        with pytest.raises(ConfigurationError, match="all adapters must target the same set of parameters"):
            model.add_adapter("b", CoreRegionConfig(core_mask=make_mask(base), **options))
        assert list(model.peft_config) == ["default"]
    linear = get_peft_model(build_model("mixtral"), CoreRegionConfig(core_mask=make_mask(base)))
    with pytest.raises(ConfigurationError, match="all adapters must target the same set of parameters"):
        linear.add_adapter("b", CoreRegionConfig(core_mask=make_mask(base), target_parameters=EXPERTS))
    assert not _wrappers(linear)


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
@pytest.mark.parametrize("kind", ["mixtral", "gpt-oss"])
def test_saved_adapters_are_complete(
    kind: str,
    low_cpu_mem_usage: bool,
    build_model: Wrap,
    make_mask: Wrap,
    tokens: torch.Tensor,
    logits: Wrap,
    tmp_path: Path,
) -> None:
    """Two saved adapters give the same functions and masks on a fresh base, loaded in the other order."""
    base = build_model(kind)
    model = _wrapped(base, make_mask(base, "random"), r=2)
    second = {"core_mask": make_mask(base), "target_parameters": EXPERTS, "r": 0, "init_weights": False}
    model.add_adapter("b", CoreRegionConfig(**second))
    model.save_pretrained(str(tmp_path))
    options = {"low_cpu_mem_usage": low_cpu_mem_usage}
    loaded = PeftModel.from_pretrained(build_model(kind), str(tmp_path / "b"), adapter_name="b", **options)
    result = loaded.load_adapter(str(tmp_path), "default", **options)
    assert not result.unexpected_keys
    assert not any("core_region" in key for key in result.missing_keys)
    for name in ("default", "b"):
        model.set_adapter(name)
        loaded.set_adapter(name)
        assert torch.equal(logits(loaded, tokens), logits(model, tokens))
        assert loaded.core_mask == model.core_mask


def test_copies_and_pickles(build_model: Wrap, make_mask: Wrap, tokens: torch.Tensor, logits: Wrap) -> None:
    """Deepcopy and pickle give a model with the same function."""
    base = build_model("mixtral")
    model = _wrapped(base, make_mask(base))
    expected = logits(model, tokens)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301 made on this line
        assert torch.equal(logits(other, tokens), expected)


def test_edits_act_on_the_effective_experts(
    build_model: Wrap, make_mask: Wrap, tokens: torch.Tensor, logits: Wrap, snapshot: Callable[..., Bits]
) -> None:
    """Zeroing the complement leaves the core of the experts; leaving the block restores every bit."""
    base = build_model("mixtral")
    mask = make_mask(base)
    model = _wrapped(base, mask)
    before, adapted = snapshot(model), logits(model, tokens)
    name = "model.layers.1.mlp.experts.gate_up_proj"
    with model.perturb("complement"):
        weight = bare_weights(model)[name].parameter
        assert (weight[~mask[name]] == 0).all()
        assert (weight[mask[name]] != 0).all()
    after = snapshot(model)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert torch.equal(logits(model, tokens), adapted)


def test_an_existing_parametrization_stays(bits: Callable[..., Any]) -> None:
    """The adapter acts on what the user's parametrisation gives; merging is refused, all else works."""

    class Doubled(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return 2 * weight

    model = nn.Sequential(Table(), nn.Linear(4, 2))
    table: Any = model[0]
    parametrize.register_parametrization(table, "matrix", Doubled())
    original = bits(table.parametrizations.matrix.original)
    x = torch.randn(3, 6)
    plain = model(x)
    core = torch.rand(4, 6) < 0.4
    key = next(name for name in bare_weights(model) if "matrix" in name)
    wrapped = _wrapped(model, CoreMask({key: core}), target_parameters=["0.matrix"])
    adapted = wrapped(x)
    assert not torch.allclose(adapted, plain)
    layer: Any = model[0]
    change = layer.scaling["default"] * (layer.core_region_B["default"] @ layer.core_region_A["default"])
    stored = table.parametrizations.matrix.original
    torch.testing.assert_close(adapted, model[1](x @ (2 * stored + change.masked_fill(core, 0)).T))
    with pytest.raises(UnsupportedModelError, match="parametrisation"):
        wrapped.merge_adapter()
    with wrapped.disable_adapter():
        assert torch.equal(wrapped(x), plain)
    assert torch.equal(bits(stored), original)
    assert torch.equal(wrapped.unload()(x), plain)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing(use_reentrant: bool, build_model: Wrap, make_mask: Wrap, tokens: torch.Tensor) -> None:
    """Training with activations recomputed gives the gradients of training without."""
    base = build_model("mixtral")
    model = _wrapped(base, make_mask(base)).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    plain = torch.autograd.grad(model(tokens, labels=tokens).loss, parameters)
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
    model(tokens, labels=tokens, use_cache=False).loss.backward()
    for one, parameter in zip(plain, parameters, strict=True):
        torch.testing.assert_close(parameter.grad, one)


def test_autocast_keeps_the_dtype() -> None:
    """Under autocast the effective value has the dtype of the stored one."""
    model, _ = _table()
    seen = []
    table = model.base_model.model[0].base_layer
    table.register_forward_pre_hook(lambda module, args: seen.append(module.matrix.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(torch.randn(3, 6))
    assert seen == [torch.float32]
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize("autocast", [True, False])
def test_sixteen_bit_experts(
    autocast: bool, build_model: Wrap, make_mask: Wrap, tokens: torch.Tensor, logits: Wrap
) -> None:
    """Experts in bfloat16 compute in bfloat16, with adapters in float32 or bfloat16."""
    base = build_model("mixtral").bfloat16()
    options = {"target_parameters": EXPERTS, "init_weights": False}
    config = CoreRegionConfig(core_mask=make_mask(base), **options)
    model = get_peft_model(base, config, autocast_adapter_dtype=autocast)
    expected = torch.float32 if autocast else torch.bfloat16
    assert {parameter.dtype for parameter in model.parameters() if parameter.requires_grad} == {expected}
    out = logits(model, tokens)
    assert out.dtype == torch.bfloat16
    assert out.isfinite().all()


def test_state_names_and_shapes(build_model: Wrap, make_mask: Wrap) -> None:
    """A has (experts, r, in), B (experts, out, r), as in LoRA; the mask is packed."""
    base = build_model("mixtral")
    model = _wrapped(base, make_mask(base), r=3)
    state = get_peft_model_state_dict(model)
    shapes = {tuple(value.shape) for key, value in state.items() if "layers.0" in key}
    assert shapes == {(4, 3, 24), (4, 80, 3), (4 * 80 * 24 // 8,), (4, 3, 40), (4, 24, 3), (4 * 40 * 24 // 8,)}
    wrapper = _wrappers(model)[0]
    assert wrapper.weight_shape == wrapper.core_mask("default").shape == wrapper.adapted.shape
    text = repr(wrapper)
    assert text.startswith("core_region.ParamWrapper(")
    for part in ("parameter_name='", "in_features=", "out_features=", "core_region_A"):
        assert part in text
    assert sorted(model.base_model.targeted_parameter_names) == sorted(
        f"model.layers.{layer}.mlp.{name}" for layer in range(2) for name in EXPERTS
    )


@pytest.mark.filterwarnings("ignore:The following .*_pattern keys did not match")  # PEFT looks at modules only
def test_ranks_of_single_parameters(build_model: Wrap, make_mask: Wrap) -> None:
    """rank_pattern and alpha_pattern know parameters by their names."""
    base = build_model("mixtral")
    patterns = {"rank_pattern": {"experts.down_proj": 2}, "alpha_pattern": {"experts.gate_up_proj": 9}}
    model = _wrapped(base, make_mask(base), r=3, lora_alpha=6, **patterns)
    ranks = {
        wrapper.parameter_name: (wrapper.r["default"], wrapper.scaling["default"]) for wrapper in _wrappers(model)
    }
    assert ranks == {"gate_up_proj": (3, 3.0), "down_proj": (2, 3.0)}


def test_a_position_table_that_looks_itself_up(
    build_model: Wrap, make_full_mask: Wrap, tokens: torch.Tensor, logits: Wrap
) -> None:
    """OPT's positions, which are looked up by an attention mask, can be adapted as a parameter."""
    base = build_model("opt")
    model = _wrapped(base, make_full_mask(base), target_parameters=["embed_positions.weight"])
    adapted = logits(model, tokens)
    with model.disable_adapter():
        assert not torch.allclose(logits(model, tokens), adapted, atol=1e-4)
    model.merge_adapter()
    torch.testing.assert_close(logits(model, tokens), adapted, rtol=1e-4, atol=1e-5)


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"lora_dropout": 0.1}, ConfigurationError, "lora_dropout"),
    ({"target_parameters": ["self_attn.sinks"]}, UnsupportedModelError, "1 dimensions"),
    ({"target_parameters": ["nothing"]}, InputError, "no `target_parameters` found"),
    ({"target_parameters": ["lm_head.weight"]}, CoreMaskMismatchError, "does not cover"),
    (
        {"target_modules": ["q_proj"], "target_parameters": ["q_proj.weight"]},
        ValueError,
        "Trying to wrap an `nn.Parameter` of layer",
    ),
]


@pytest.mark.parametrize("options, error, words", REFUSED)
def test_what_cannot_be_adapted_is_refused(
    options: dict[str, Any], error: type[Exception], words: str, build_model: Wrap, make_mask: Wrap
) -> None:
    """Each refusal says why, and the model is what it was."""
    base = build_model("gpt-oss")
    before = [(name, type(module)) for name, module in base.named_modules()]
    with pytest.raises(error, match=words):
        _wrapped(base, make_mask(base), **options)
    assert [(name, type(module)) for name, module in base.named_modules()] == before


def test_parameters_of_the_model_itself_are_refused() -> None:
    """The top-level module cannot be replaced by a wrapper."""
    with pytest.raises(UnsupportedModelError, match="top-level module"):
        _wrapped(Table(), CoreMask({"matrix": torch.zeros(4, 6, dtype=torch.bool)}), target_parameters=["matrix"])


def test_mixed_batches_are_refused(build_model: Wrap, make_mask: Wrap, tokens: torch.Tensor) -> None:
    """The module sees the whole batch with one value of its parameter."""
    base = build_model("mixtral")
    model = _wrapped(base, make_mask(base)).eval()
    with pytest.raises(InputError, match="does not support mixed adapter batches"):
        model(tokens, adapter_names=["default", "__base__"])


def test_masks_computed_when_wrapped(build_model: Wrap, tokens: torch.Tensor, logits: Wrap) -> None:
    """method= covers parameters outside the decoder layers, too, and modules without any."""
    base = build_model("mixtral")
    options = {"method": "magnitude", "fraction": 0.1, "init_weights": False}
    model = get_peft_model(base, CoreRegionConfig(target_parameters=[*EXPERTS, "lm_head.weight"], **options))
    assert "lm_head.weight" in model.core_mask
    assert "model.layers.0.self_attn.q_proj.weight" in model.core_mask
    plain = get_peft_model(nn.Sequential(Table()), CoreRegionConfig(target_parameters=["0.matrix"], **options))
    assert list(plain.core_mask) == ["0.matrix"]
    assert plain.core_mask.count() == 2
