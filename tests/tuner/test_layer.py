from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from hf_langcore.errors import InputError, LangCoreError, ModelChangedError
from hf_langcore.masks import PackedBits
from hf_langcore.tuner import CoreRegionConfig, CoreRegionLinear
from hf_langcore.tuner.merging import BrokenAdapterError

IN, OUT = 7, 5


def _base(kind: str = "linear", dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(1)
    layer: nn.Module = nn.Linear(IN, OUT) if kind == "linear" else Conv1D(OUT, IN)
    nn.init.normal_(layer.weight)  # type: ignore[arg-type]
    nn.init.normal_(layer.bias)  # type: ignore[arg-type]
    return layer.to(dtype)


def _core(layer: nn.Module, which: str = "random", seed: int = 0) -> torch.Tensor:
    weight: Any = layer.weight
    if which == "magnitude":
        return weight.detach().float().abs() > weight.detach().float().abs().median()
    return torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed)) < 0.4


def _layer(base: nn.Module, core: torch.Tensor | None, *, name: str = "default", **options: Any) -> CoreRegionLinear:
    config = CoreRegionConfig(**{"r": 3, "lora_alpha": 6, "init_weights": False, **options})
    packed = None if core is None else PackedBits.from_bool(core)
    return CoreRegionLinear(base, name, packed, config=config)


def _formula(layer: CoreRegionLinear, x: torch.Tensor, core: torch.Tensor, name: str = "default") -> torch.Tensor:
    """The output x @ where(core, W, W + scaling * B A) + bias, in float64 and spelled out."""
    base: Any = layer.base_layer
    if layer.r[name] == 0:
        change = layer.core_region_delta[name].double()
    else:
        change = layer.scaling[name] * (layer.core_region_B[name].double() @ layer.core_region_A[name].double())
        change = change.T if layer.fan_in_fan_out else change
    weight = base.weight.double()
    effective = torch.where(core, weight, weight + change)
    effective = effective if layer.fan_in_fan_out else effective.T
    return x.double() @ effective + base.bias.double()


KINDS = pytest.mark.parametrize("kind", ["linear", "conv1d"])
RANKS = pytest.mark.parametrize("rank", [3, 0])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
MASKS = pytest.mark.parametrize("which", ["random", "magnitude"])


@KINDS
@RANKS
@MASKS
def test_forward_is_the_formula(kind: str, rank: int, which: str) -> None:
    """The output is that of the plain formula, computed in float64."""
    base = _base(kind)
    core = _core(base, which)
    layer = _layer(base, core, r=rank)
    x = torch.randn(2, 4, IN)
    torch.testing.assert_close(layer(x).double(), _formula(layer, x, core), rtol=1e-5, atol=1e-5)


@KINDS
@RANKS
def test_gradients_are_those_of_the_formula(kind: str, rank: int) -> None:
    """Autograd through the layer and through the plain formula agree for the adapter and the input."""
    base = _base(kind, torch.float64)
    core = _core(base)
    layer = _layer(base, core, r=rank)
    x = torch.randn(4, IN, dtype=torch.float64, requires_grad=True)
    parameters = [parameter for parameter in layer.parameters() if parameter.requires_grad] + [x]
    target = torch.randn(4, OUT, dtype=torch.float64)
    ours = torch.autograd.grad((layer(x) - target).pow(2).sum(), parameters)
    plain = torch.autograd.grad((_formula(layer, x, core) - target).pow(2).sum(), parameters)
    for ours_one, plain_one in zip(ours, plain, strict=True):
        torch.testing.assert_close(ours_one, plain_one)


def test_core_entries_of_a_dense_change_get_no_gradient() -> None:
    """With r=0 the numbers that stand in the core are never trained."""
    base = _base()
    core = _core(base)
    layer = _layer(base, core, r=0)
    layer(torch.randn(4, IN)).pow(2).sum().backward()
    gradient = layer.core_region_delta["default"].grad
    assert (gradient[core] == 0).all()
    assert (gradient[~core] != 0).any()


@KINDS
@RANKS
@DTYPES
@MASKS
def test_merging_keeps_every_bit_of_the_core(
    kind: str, rank: int, dtype: torch.dtype, which: str, bits: Callable[..., Any], plant: Callable[..., Any]
) -> None:
    """Merged core entries are identical bit for bit, also -0.0 and NaN, and unmerging restores all entries so."""
    base: Any = _base(kind, dtype)
    plant(base.weight)
    core = _core(base, which)
    core.view(-1)[[3, 5, 7, 14]] = True
    layer = _layer(base, core, r=rank)
    before = bits(base.weight)
    layer.merge()
    after = bits(base.weight)
    assert torch.equal(after[core], before[core])
    assert (after[~core] != before[~core]).any()
    layer.unmerge()
    assert torch.equal(bits(base.weight), before)


@KINDS
@RANKS
def test_merged_weight_is_the_sum_in_float32(kind: str, rank: int) -> None:
    """A bfloat16 weight plus the change is added in float32 and rounded once."""
    base: Any = _base(kind, torch.bfloat16)
    core = _core(base)
    layer = _layer(base, core, r=rank)
    change = layer._change(["default"], torch.float32).on(None).detach()
    expected = torch.where(core, base.weight, (base.weight.float() + change).bfloat16())
    layer.merge()
    assert torch.equal(base.weight, expected)


def test_float64_weights_are_merged_in_float64() -> None:
    """A wider base does not lose digits by merging."""
    base: Any = _base(dtype=torch.float64)
    layer = _layer(base, torch.zeros(OUT, IN, dtype=torch.bool))
    x = torch.randn(3, IN, dtype=torch.float64)
    unmerged = layer(x)
    layer.merge()
    torch.testing.assert_close(layer(x), unmerged, rtol=1e-12, atol=1e-12)


@DTYPES
def test_output_keeps_the_dtype(dtype: torch.dtype) -> None:
    """An adapter in float32 on a 16-bit layer gives 16-bit outputs."""
    base = _base(dtype=dtype)
    layer = _layer(base, _core(base))
    layer.core_region_A["default"].data = layer.core_region_A["default"].data.float()
    layer.core_region_B["default"].data = layer.core_region_B["default"].data.float()
    assert layer(torch.randn(2, IN, dtype=dtype)).dtype == dtype


def test_start_values_change_nothing() -> None:
    """A fresh adapter, low-rank or dense, leaves the output as it is; A is not 0, so that it can learn."""
    base = _base()
    x = torch.randn(3, IN)
    for rank in (3, 0):
        layer = _layer(base, _core(base), r=rank, init_weights=True)
        assert torch.equal(layer(x), base(x))
        assert rank == 0 or (layer.core_region_A["default"] != 0).all()


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"r": 4, "lora_alpha": 8}, 2.0),
        ({"r": 4, "lora_alpha": 8, "use_rslora": True}, 8 / math.sqrt(4)),
        ({"r": 0}, 1.0),
    ],
)
def test_scaling(options: dict[str, Any], expected: float) -> None:
    """lora_alpha / r, with rslora lora_alpha / sqrt(r), and 1 for a dense change."""
    base = _base()
    assert _layer(base, _core(base), **options).scaling["default"] == expected


def test_scaling_can_be_changed() -> None:
    """set_scale counts from the initial scaling, scale_layer and unscale_layer from the present one, as in LoRA."""
    base = _base()
    core = _core(base)
    layer = _layer(base, core)  # scaling 6 / 3
    x = torch.randn(3, IN)
    plain, once = base(x), layer(x)
    layer.set_scale("default", 0.5)
    assert layer.scaling["default"] == 1.0
    torch.testing.assert_close(layer(x) - plain, (once - plain) / 2, rtol=1e-4, atol=1e-5)
    layer.set_scale("default", 3)
    assert layer.scaling["default"] == 6.0
    layer.scale_layer(0.5)
    layer.scale_layer(0.5)
    assert layer.scaling["default"] == 1.5
    layer.unscale_layer(0.5)
    assert layer.scaling["default"] == 3.0
    layer.unscale_layer()
    assert layer.scaling["default"] == 2.0
    assert torch.equal(layer(x), once)
    layer.set_scale("elsewhere", 7)
    layer.scale_layer(0.0)
    assert torch.equal(layer(x), plain)
    layer.merge()
    torch.testing.assert_close(layer(x), plain)


def test_scaling_acts_on_active_adapters_only() -> None:
    """scale_layer and unscale_layer leave the inactive adapter alone; a dense change can be scaled, too."""
    base = _base()
    layer = _two(_core(base, seed=1), _core(base, seed=2), base)
    layer.set_adapter(["b"])
    x = torch.randn(3, IN)
    plain, once = base(x), layer(x)
    layer.scale_layer(0.25)
    assert layer.scaling == {"a": 2.0, "b": 0.25}
    torch.testing.assert_close(layer(x) - plain, (once - plain) / 4, rtol=1e-4, atol=1e-5)
    layer.set_scale("a", 2)
    layer.unscale_layer()
    assert layer.scaling == {"a": 4.0, "b": 1.0}


def test_bits_that_have_not_arrived_protect_everything() -> None:
    """Without bits the layer does what its base does, merged or not; loading the bits unlocks it."""
    base: Any = _base()
    core = _core(base)
    layer, trained = _layer(base, None), _layer(copy.deepcopy(base), core)
    x = torch.randn(3, IN)
    assert layer.core_mask("default").all()
    assert torch.equal(layer(x), base(x))
    before = base.weight.clone()
    layer.merge()
    assert torch.equal(base.weight, before)
    layer.unmerge()
    layer.load_state_dict(trained.state_dict())
    assert torch.equal(layer.core_mask("default"), core)
    assert torch.equal(layer(x), trained(x))


def test_core_mask_is_in_storage_orientation() -> None:
    """True = protected, in the shape of the stored weight, for nn.Linear and Conv1D alike."""
    for kind, shape in (("linear", (OUT, IN)), ("conv1d", (IN, OUT))):
        base = _base(kind)
        layer = _layer(base, _core(base))
        assert layer.core_mask("default").shape == shape == layer.weight_shape
        assert torch.equal(layer.core_mask("default"), _core(base))


def test_core_mask_of_an_unknown_adapter() -> None:
    """The message names the adapters that are there."""
    base = _base()
    with pytest.raises(InputError, match=r"no adapter 'other'; it has \['default'\]"):
        _layer(base, _core(base)).core_mask("other")


def test_a_core_of_another_shape_is_refused() -> None:
    """Transposed bits would protect the wrong weights."""
    base = _base()
    with pytest.raises(InputError, match="shape"):
        _layer(base, _core(base).T)


def test_state_names_begin_with_the_prefix() -> None:
    """All state beside the base layer is called core_region_*, and the mask is packed and persistent."""
    base = _base()
    state = _layer(base, _core(base), lora_dropout=0.1).state_dict()
    names = {name for name in state if not name.startswith("base_layer.")}
    assert names == {"core_region_A.default", "core_region_B.default", "core_region_mask.default"}
    mask = state["core_region_mask.default"]
    assert (mask.dtype, mask.numel()) == (torch.uint8, math.ceil(IN * OUT / 8))


def _two(core_a: torch.Tensor, core_b: torch.Tensor, base: nn.Module) -> CoreRegionLinear:
    layer = _layer(base, core_a, name="a")
    config = CoreRegionConfig(r=0, init_weights=False)
    layer.update_layer("b", PackedBits.from_bool(core_b), config=config)
    return layer


def test_adapters_that_act_together_keep_off_the_union() -> None:
    """With two active adapters no weight changes that either of them protects, in the forward pass and merged."""
    base: Any = _base()
    core_a, core_b = _core(base, seed=1), _core(base, seed=2)
    layer = _two(core_a, core_b, base)
    layer.set_adapter(["a", "b"])
    union = core_a | core_b
    change = layer._change(["a", "b"], torch.float32).on(None).detach()
    expected = torch.where(union, base.weight, base.weight + change).detach()
    x = torch.randn(3, IN)
    torch.testing.assert_close(layer(x), x @ expected.T + base.bias)
    layer.merge()
    torch.testing.assert_close(base.weight.detach(), expected)
    assert torch.equal(base.weight[union], _base().weight[union])  # type: ignore[index]


def test_an_inactive_adapter_changes_nothing() -> None:
    """Loading a second adapter with another core leaves the first one's outputs as they were."""
    base = _base()
    core = _core(base, seed=1)
    layer = _layer(base, core, name="a")
    x = torch.randn(3, IN)
    alone = layer(x)
    layer.update_layer("b", None, config=CoreRegionConfig(r=0, init_weights=False))
    assert torch.equal(layer(x), alone)


def test_merging_one_after_the_other_is_merging_both(bits: Callable[..., Any]) -> None:
    """The second merge starts from the base weight again, so that the union is protected and unmerge is exact."""
    base: Any = _base()
    before = bits(base.weight)
    layer = _two(_core(base, seed=1), _core(base, seed=2), base)
    layer.merge(adapter_names=["a", "b"])
    together = bits(base.weight)
    layer.unmerge()
    layer.merge(adapter_names=["a"])
    with pytest.warns(UserWarning, match="Already following adapters were merged a"):
        layer.merge(adapter_names=["b"])
    assert torch.equal(bits(base.weight), together)
    assert layer.merged_adapters == ["a", "b"]
    layer.unmerge()
    assert torch.equal(bits(base.weight), before)
    assert not layer.merged


def test_merging_and_unmerging_twice_warn() -> None:
    """As PEFT's own layers do."""
    base = _base()
    layer = _layer(base, _core(base))
    with pytest.warns(UserWarning, match="Already unmerged"):
        layer.unmerge()
    layer.merge()
    with pytest.warns(UserWarning, match="All adapters are already merged"):
        layer.merge()


def test_merging_an_adapter_of_other_layers_does_nothing() -> None:
    """An adapter that does not target this layer is not listed as merged here."""
    base = _base()
    layer = _layer(base, _core(base))
    layer.merge(adapter_names=["elsewhere"])
    assert not layer.merged


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_safe_merge_refuses_broken_adapters(value: float, bits: Callable[..., Any]) -> None:
    """Nothing is changed; the error is PEFT's ValueError and this library's error in one."""
    base: Any = _base()
    layer = _layer(base, torch.zeros(OUT, IN, dtype=torch.bool))
    layer.core_region_A["default"].data[0, 0] = value
    before = bits(base.weight)
    with pytest.raises(ValueError, match="NaNs detected in the merged weights") as caught:
        layer.merge(safe_merge=True)
    assert isinstance(caught.value, BrokenAdapterError)
    assert isinstance(caught.value, LangCoreError)
    assert torch.equal(bits(base.weight), before)
    assert not layer.merged


def test_safe_merge_sees_overflow() -> None:
    """A float16 weight that the change drives over 65504 counts as broken."""
    base = _base(dtype=torch.float16)
    layer = _layer(base, _core(base), r=0)
    layer.core_region_delta["default"].data = torch.full((OUT, IN), 1e6)
    with pytest.raises(BrokenAdapterError, match=r"torch\.float16"):
        layer.merge(safe_merge=True)


def test_safe_merge_allows_what_was_broken_before(plant: Callable[..., Any]) -> None:
    """NaN in the base weight, in or outside the core, is not the adapter's fault."""
    base: Any = _base()
    plant(base.weight)
    layer = _layer(base, _core(base))
    layer.merge(safe_merge=True)
    assert layer.merged


def test_nan_of_the_change_does_not_reach_the_core() -> None:
    """A broken change stays out of the core even where nobody checks."""
    base: Any = _base()
    core = torch.ones(OUT, IN, dtype=torch.bool)
    core[0] = False
    layer = _layer(base, core)
    layer.core_region_A["default"].data.fill_(float("nan"))
    out = layer(torch.randn(2, IN))
    assert out[:, 0].isnan().all()
    assert out[:, 1:].isfinite().all()


def test_disabled_adapters_leave_the_base() -> None:
    """Disabling gives the base layer's output and takes a merged adapter out again."""
    base = _base()
    plain = _base()
    layer = _layer(base, _core(base))
    x = torch.randn(3, IN)
    with_adapter = layer(x)
    layer.merge()
    torch.testing.assert_close(layer(x), with_adapter)
    layer.enable_adapters(enabled=False)
    assert torch.equal(layer(x), plain(x))
    assert not layer.merged
    layer.enable_adapters(enabled=True)
    torch.testing.assert_close(layer(x), with_adapter)


def test_adapters_stay_on_while_an_edit_is_open() -> None:
    """An edit marks the layers that it merged; switching adapters off would unmerge what it relies on."""
    base: Any = _base()
    layer = _layer(base, _core(base))
    x, before = torch.randn(2, IN), base.weight.detach().clone()
    without = base(x)
    assert layer.edit_open is False
    layer.merge()
    layer.edit_open = True
    merged = base.weight.detach().clone()
    layer(x)
    layer.enable_adapters(False)
    with pytest.raises(ModelChangedError, match=r"while an edit is open.*inside disable_adapter\(\)"):
        layer(x)
    assert layer.merged
    assert torch.equal(base.weight, merged)
    layer.edit_open = False
    assert torch.equal(layer(x), without)
    assert torch.equal(base.weight, before)


def test_dropout_acts_on_the_adapter_only() -> None:
    """In training the adapter's input is thinned out; in evaluation it is not; the base output never."""
    base = _base()
    layer = _layer(base, _core(base), lora_dropout=0.5)
    x = torch.ones(1, IN)
    assert not torch.equal(layer.train()(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


def test_delta_weight_is_the_change_without_the_core() -> None:
    """What PEFT asks for as the adapter's delta is 0 in the core and float32 for 16-bit layers."""
    base: Any = _base("conv1d", torch.bfloat16)
    core = _core(base)
    delta = _layer(base, core).get_delta_weight("default")
    assert delta.shape == base.weight.shape
    assert delta.dtype == torch.float32
    assert (delta[core] == 0).all()
    assert (delta[~core] != 0).all()


def test_no_conversion_to_lora() -> None:
    """A LoRA fitted to the change would touch the core, so PEFT must not offer it."""
    base = _base()
    assert not _layer(base, _core(base)).supports_lora_conversion()


def test_a_deleted_adapter_leaves_nothing() -> None:
    """Weights, bits and settings of a deleted adapter are gone, and the other one becomes active."""
    base = _base()
    layer = _two(_core(base, seed=1), _core(base, seed=2), base)
    with pytest.warns(UserWarning, match="Setting active adapter to b"):
        layer.delete_adapter("a")
    assert layer.active_adapters == ["b"]
    assert not any(name.endswith(".a") for name in layer.state_dict())
    assert set(layer.r) == set(layer.scaling) == set(layer.lora_alpha) == {"b"}


def test_bits_never_go_to_the_meta_device() -> None:
    """A base layer without values yet does not cost the mask, which would otherwise come back as noise."""
    base = _base()
    core = _core(base)
    layer = _layer(base.to("meta"), core)
    assert layer.core_region_mask["default"].device.type == "cpu"
    assert torch.equal(layer.core_mask("default"), core)


def test_packed_bits_survive_dtype_changes() -> None:
    """Casting the layer casts its numbers, not its mask."""
    base = _base()
    core = _core(base)
    assert torch.equal(_layer(base, core).to(torch.bfloat16).half().core_mask("default"), core)


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    """Recomputing the layer in the backward pass changes nothing."""
    from torch.utils.checkpoint import checkpoint

    base = _base()
    layer = _layer(base, _core(base))
    x = torch.randn(3, IN)
    parameters = [layer.core_region_A["default"], layer.core_region_B["default"]]
    plain = torch.autograd.grad(layer(x).pow(2).sum(), parameters)
    again = torch.autograd.grad(checkpoint(layer, x, use_reentrant=False).pow(2).sum(), parameters)
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))


def test_no_warnings_in_ordinary_use() -> None:
    """Forward, merge and unmerge are silent."""
    base = _base()
    layer = _layer(base, _core(base))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(torch.randn(1, IN))
        layer.merge()
        layer.unmerge()
    assert repr(layer).startswith("core_region.CoreRegionLinear")


def test_a_deleted_adapter_is_forgotten_everywhere(llama: Any, make_mask: Callable[..., Any]) -> None:
    """Neither the tuner nor a layer of another adapter keeps its mask."""
    from peft import get_peft_model

    model = get_peft_model(llama, CoreRegionConfig(core_mask=make_mask(llama), target_modules=["q_proj"]), "a")
    model.add_adapter("b", CoreRegionConfig(core_mask=make_mask(llama, "random"), target_modules=["v_proj"]))
    model.base_model.set_adapter(["a", "b"])
    model(torch.arange(6)[None])
    model.delete_adapter("a")
    layers = [module for module in model.modules() if isinstance(module, CoreRegionLinear)]
    assert layers
    assert all("a" not in layer.masks_of_all and "a" not in layer._elsewhere._known for layer in layers)
