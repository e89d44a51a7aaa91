from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import merge_utils
from torch import nn
from transformers.pytorch_utils import Conv1D

from hf_langcore.architecture import bare_weights
from hf_langcore.errors import ConfigurationError, InputError
from hf_langcore.masks import CoreMask
from hf_langcore.tuner import CoreRegionConfig
from hf_langcore.tuner.config import CombinationType
from hf_langcore.tuner.layer import tuner_layers

Wrap = Callable[..., Any]

KINDS = get_args(CombinationType)
DENSITY = {kind: {"density": 0.6} for kind in KINDS if kind not in {"svd", "linear", "cat"}}


class Small(nn.Module):
    """One layer of each kind."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(9, 8)
        self.first = nn.Linear(8, 7)
        self.second = Conv1D(6, 7)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.first(self.table(tokens)))
        output: torch.Tensor = self.second(hidden)
        return output


TARGETS = ["table", "first", "second"]
TOKENS = torch.arange(9)


def _mask(seed: int, share: float = 0.3) -> CoreMask:
    numbers = torch.Generator().manual_seed(seed)
    shapes = {"table.weight": (9, 8), "first.weight": (7, 8), "second.weight": (7, 6)}
    return CoreMask({name: torch.rand(shape, generator=numbers) < share for name, shape in shapes.items()})


def _pair(first: dict[str, Any], second: dict[str, Any]) -> Any:
    """A model with adapters "a" and "b"."""
    common = {"target_modules": TARGETS, "r": 3, "lora_alpha": 6, "init_weights": False}
    model = get_peft_model(Small(), CoreRegionConfig(**{**common, "core_mask": _mask(1), **first}), adapter_name="a")
    model.add_adapter("b", CoreRegionConfig(**{**common, "core_mask": _mask(2), **second}))
    return model.eval()


def _raw(layer: Any, name: str) -> torch.Tensor:
    """What an adapter would add if there were no core; nothing where it is not."""
    if name not in layer.core_region_mask:
        return torch.zeros(layer.weight_shape)
    change: torch.Tensor = layer._change([name], torch.float32).on(None).detach()
    return change


def _layers(model: Any) -> dict[str, Any]:
    """The adapted layers by the names of their weights."""
    names = {id(weight.parameter): name for name, weight in bare_weights(model).items()}
    return {names[id(layer.adapted)]: layer for layer in tuner_layers(model)}


def _require_sum(model: Any, weights: dict[str, float], name: str = "new") -> None:
    """The new adapter is the weighted sum of the changes outside the union of the cores, and exactly 0 in it."""
    for key, layer in _layers(model).items():
        union = torch.stack([model.peft_config[other].core_mask[key] for other in weights]).any(0)
        total = sum((weight * _raw(layer, other) for other, weight in weights.items()), start=torch.zeros(()))
        assert torch.equal(layer.core_mask(name), union)
        delta = layer.get_delta_weight(name)
        assert (delta[union] == 0).all()
        torch.testing.assert_close(delta, total.masked_fill(union, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "kind, options",
    [("cat", {}), ("svd", {"svd_rank": 9}), ("svd", {"svd_rank": 9, "svd_full_matrices": False, "svd_driver": None})],
)
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.7, -1.5)])
def test_exact_combinations(kind: str, options: dict[str, Any], weights: tuple[float, float]) -> None:
    """Joined or decomposed at full rank, the new adapter is the weighted sum around both cores, whatever the scalings."""
    model = _pair({}, {"r": 2, "lora_alpha": 10})
    model.add_weighted_adapter(["a", "b"], list(weights), "new", kind, **options)
    _require_sum(model, dict(zip("ab", weights, strict=True)))
    assert model.peft_config["new"].r == (5 if kind == "cat" else 9)


@pytest.mark.parametrize("kind", ["cat", "svd", "linear"])
def test_both_at_once_is_their_sum(kind: str) -> None:
    """With weights of 1 the joined adapter computes what both compute together."""
    model = _pair({}, {})
    model.add_weighted_adapter(["a", "b"], [1.0, 1.0], "new", kind, svd_rank=9)
    model.base_model.set_adapter(["a", "b"])
    together = model(TOKENS)
    model.set_adapter("new")
    close = torch.allclose(model(TOKENS), together, rtol=1e-4, atol=1e-4)
    assert close == (kind != "linear")  # LoRA's linear combination has cross terms


@pytest.mark.parametrize("weight", [0.4, -2.0])
@pytest.mark.parametrize("kind", ["svd", "cat", "ties"])
def test_one_adapter_is_scaled(weight: float, kind: str) -> None:
    """A single adapter times a number is exact for every type."""
    model = _pair({"lora_alpha": 7}, {})
    model.add_weighted_adapter(["a"], [weight], "new", kind, density=0.5)
    _require_sum(model, {"a": weight})
    assert torch.equal(next(tuner_layers(model)).core_mask("new"), next(tuner_layers(model)).core_mask("a"))


@pytest.mark.parametrize("kind", KINDS)
def test_dense_adapters(kind: str) -> None:
    """Dense adapters give a dense one; sums are exact, and pruned ones stay off the union of the cores."""
    model = _pair({"r": 0}, {"r": 0})
    model.add_weighted_adapter(["a", "b"], [0.5, -0.25], "new", kind, **DENSITY.get(kind, {}))
    assert model.peft_config["new"].r == 0
    for key, layer in _layers(model).items():
        assert (layer.get_delta_weight("new")[(_mask(1) | _mask(2))[key]] == 0).all()
        assert (layer.get_delta_weight("new") != 0).any()
    if kind in {"svd", "linear", "cat"}:
        _require_sum(model, {"a": 0.5, "b": -0.25})


def test_a_dense_and_a_low_rank_adapter() -> None:
    """They can be combined by decomposition, and not by joining."""
    model = _pair({"r": 0}, {"r": 3})
    model.add_weighted_adapter(["a", "b"], [1.0, 2.0], "new", "svd", svd_rank=9)
    _require_sum(model, {"a": 1.0, "b": 2.0})
    for kind in ("cat", "linear"):
        with pytest.raises(ConfigurationError, match="svd"):
            model.add_weighted_adapter(["a", "b"], [1.0, 2.0], "other", kind)
    assert list(model.peft_config) == ["a", "b", "new"]


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_those_of_lora(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a core every type gives the numbers that LoRA gives."""

    def every_third(tensor: torch.Tensor, density: float, *, rescale: bool) -> torch.Tensor:
        kept = (torch.arange(tensor.numel()) % 3 > 0).view_as(tensor)
        return tensor * kept / density if rescale else tensor * kept

    # Both draw start values for the new adapter first, not equally many.
    monkeypatch.setattr(merge_utils, "random_pruning", every_third)
    empty = _mask(0, share=0.0)
    model = _pair({"core_mask": empty}, {"core_mask": empty, "lora_alpha": 12})
    common: dict[str, Any] = {"target_modules": TARGETS, "r": 3, "init_lora_weights": False}
    base = Small()
    # PEFT warns of LoRA adapters whose name is part of "lora_".
    lora = get_peft_model(base, LoraConfig(**common, lora_alpha=6), adapter_name="x")
    lora.add_adapter("y", LoraConfig(**common, lora_alpha=12))
    pairs = [(getattr(model.base_model.model, name), getattr(base, name)) for name in TARGETS]
    for ours, theirs in pairs:
        for name, other in (("a", "x"), ("b", "y")):
            embeds = other in theirs.lora_embedding_A
            a = theirs.lora_embedding_A[other] if embeds else theirs.lora_A[other].weight
            b = theirs.lora_embedding_B[other] if embeds else theirs.lora_B[other].weight
            ours.core_region_A[name].data, ours.core_region_B[name].data = a.data.clone(), b.data.clone()
    for wrapped, names in ((model, ["a", "b"]), (lora, ["x", "y"])):
        wrapped.add_weighted_adapter(names, [0.8, -0.6], "new", kind, **DENSITY.get(kind, {}))
    for ours, theirs in pairs:
        expected = theirs.get_delta_weight("new")
        assert (expected != 0).any()
        torch.testing.assert_close(ours.get_delta_weight("new"), expected, rtol=1e-4, atol=1e-5)
        assert ours.r["new"] == theirs.r["new"]


@pytest.mark.parametrize("kind", ["cat", "svd"])
def test_rank_stabilised_adapters(kind: str) -> None:
    """With use_rslora, too, the new adapter is the weighted sum."""
    model = _pair({"use_rslora": True}, {})
    model.add_weighted_adapter(["a", "b"], [1.0, 0.5], "new", kind, svd_rank=9)
    _require_sum(model, {"a": 1.0, "b": 0.5})


def test_adapters_of_different_layers() -> None:
    """A layer that only one adapter changes gets that one's part."""
    model = _pair({"target_modules": ["first"]}, {"target_modules": ["first", "second"]})
    model.add_weighted_adapter(["a", "b"], [1.0, 0.5], "new", "cat")
    _require_sum(model, {"a": 1.0, "b": 0.5})
    assert {key for key, module in model.named_modules() if hasattr(module, "core_region_mask")} == {
        "base_model.model.first",
        "base_model.model.second",
    }


def test_adapters_of_different_layers_by_pattern() -> None:
    """Regular expressions are joined; a mixture of these and names is refused, and leaves nothing behind."""
    model = _pair({"target_modules": "fir.*"}, {"target_modules": ".*(nd|le)"})
    model.add_weighted_adapter(["a", "b"], [1.0, 0.5], "new", "cat")
    _require_sum(model, {"a": 1.0, "b": 0.5})
    mixed = _pair({"target_modules": "fir.*"}, {})
    with pytest.raises(ConfigurationError, match="same target modules type"):
        mixed.add_weighted_adapter(["a", "b"], [1.0, 0.5], "new", "cat")
    assert list(mixed.peft_config) == ["a", "b"]


@pytest.mark.parametrize("how", ["layers_to_transform", "exclude_modules"])
def test_no_part_is_lost(how: str, build_model: Wrap, make_mask: Wrap) -> None:
    """Where the adapters change different layers of the model, the new one changes the layers of both."""
    base = build_model("llama")
    chosen: list[dict[str, Any]] = {
        "layers_to_transform": [{"layers_to_transform": [0]}, {"layers_to_transform": [1]}],
        "exclude_modules": [{"exclude_modules": ["k_proj"]}, {"exclude_modules": ["v_proj"]}],
    }[how]
    common = {"core_mask": make_mask(base), "target_modules": ["q_proj", "k_proj", "v_proj"], "init_weights": False}
    model = get_peft_model(base, CoreRegionConfig(**common, **chosen[0]), adapter_name="a")
    model.add_adapter("b", CoreRegionConfig(**common, **chosen[1]))
    model.add_weighted_adapter(["a", "b"], [1.0, 0.5], "new", "cat")
    assert len(list(tuner_layers(model))) == 6
    _require_sum(model, {"a": 1.0, "b": 0.5})


@pytest.mark.parametrize("kind", ["cat", "svd"])
def test_rank_patterns(kind: str) -> None:
    """Layers of other ranks are combined as exactly as the rest."""
    model = _pair({"rank_pattern": {"first": 1}, "alpha_pattern": {"second": 1}}, {"rank_pattern": {"second": 5}})
    model.add_weighted_adapter(["a", "b"], [1.0, 0.5], "new", kind, svd_rank=9)
    _require_sum(model, {"a": 1.0, "b": 0.5})
    assert model.peft_config["new"].rank_pattern == {}


@pytest.mark.parametrize(
    "first, second, kind",
    [
        ({"rank_pattern": {"first": 1}}, {}, "linear"),
        ({"rank_pattern": {"first": 0}}, {}, "cat"),
        ({"r": 0, "rank_pattern": {"first": 3}}, {}, "linear"),
    ],
)
def test_layers_of_different_ranks_fail_before_anything_changes(
    first: dict[str, Any], second: dict[str, Any], kind: str
) -> None:
    """Ranks that do not fit in some layer only are refused, without leaving half an adapter behind."""
    model = _pair(first, second)
    before = [name for name, _ in model.named_parameters()]
    with pytest.raises(ConfigurationError, match="svd"):
        model.add_weighted_adapter(["a", "b"], [1.0, 0.5], "new", kind)
    assert list(model.peft_config) == ["a", "b"]
    assert [name for name, _ in model.named_parameters()] == before


def test_the_new_adapter_is_frozen_and_inactive() -> None:
    """Nothing changes for the others: the active adapter, what it computes and what can be trained stay."""
    model = _pair({}, {})
    before = model(TOKENS)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    model.add_weighted_adapter(["a", "b"], [1.0, 0.5], "new", "cat")
    assert model.active_adapters == ["a"]
    assert torch.equal(model(TOKENS), before)
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == trainable
    assert trainable
    model.add_weighted_adapter(["a"], [7.0], "new")
    _require_sum(model, {"a": 1.0, "b": 0.5})


@pytest.mark.parametrize("kind", ["cat", "svd"])
def test_an_adapter_may_be_named_twice(kind: str) -> None:
    """Each mention counts with its own weight."""
    model = _pair({}, {})
    model.add_weighted_adapter(["a", "b", "a"], [1.0, 0.5, 2.0], "new", kind, svd_rank=9)
    _require_sum(model, {"a": 3.0, "b": 0.5})


def test_clamping() -> None:
    """svd_clamp cuts the factors at a quantile."""
    model = _pair({}, {})
    for name, clamp in (("free", None), ("cut", 0.8)):
        model.add_weighted_adapter(["a", "b"], [1.0, 1.0], name, "svd", svd_clamp=clamp)
    layer: Any = next(tuner_layers(model))
    free, cut = (
        torch.cat([layer.core_region_A[name].flatten(), layer.core_region_B[name].flatten()])
        for name in ("free", "cut")
    )
    limit = torch.quantile(free, 0.8)
    torch.testing.assert_close(cut, free.clamp(-limit, limit))
    assert not torch.equal(cut, free)


def test_sign_methods_differ() -> None:
    """majority_sign_method reaches the arithmetic."""
    model = _pair({"r": 0}, {"r": 0})
    for method in ("total", "frequency"):
        options = {"density": 0.9, "majority_sign_method": method}
        model.add_weighted_adapter(["a", "b", "a"], [1.0, 3.0, 1.0], method, "ties", **options)
    layer: Any = next(tuner_layers(model))
    assert not torch.equal(layer.core_region_delta["total"], layer.core_region_delta["frequency"])


def test_saved_and_loaded(
    build_model: Wrap, make_mask: Wrap, tokens: torch.Tensor, logits: Wrap, tmp_path: Path
) -> None:
    """The new adapter is saved with the union of the cores and works without the others."""
    base = build_model("gpt2")
    mask_a, mask_b = make_mask(base, "top"), make_mask(base, "random")
    model = get_peft_model(base, CoreRegionConfig(core_mask=mask_a, init_weights=False), adapter_name="a")
    model.add_adapter("b", CoreRegionConfig(core_mask=mask_b, init_weights=False))
    model.add_weighted_adapter(["a", "b"], [0.5, 0.5], "new", "cat")
    model.set_adapter("new")
    expected = logits(model, tokens)
    model.save_pretrained(str(tmp_path), selected_adapters=["new"])
    loaded = PeftModel.from_pretrained(build_model("gpt2"), str(tmp_path / "new"))
    assert loaded.core_mask == mask_a | mask_b
    assert torch.equal(logits(loaded, tokens), expected)


def test_computed_masks(build_model: Wrap, tokens: torch.Tensor, logits: Wrap) -> None:
    """Adapters whose masks were computed when the model was wrapped are combined around both."""
    base = build_model("llama")
    options = {"fraction": 0.2, "target_modules": ["q_proj"], "init_weights": False}
    model = get_peft_model(base, CoreRegionConfig(method="magnitude", **options), adapter_name="a")
    model.add_adapter("b", CoreRegionConfig(method="random", **options))
    before = logits(model, tokens)
    model.add_weighted_adapter(["a", "b"], [1.0, 0.5], "new", "cat")
    _require_sum(model, {"a": 1.0, "b": 0.5})
    assert model.base_model._mask_of("new") == model.base_model._mask_of("a") | model.base_model._mask_of("b")
    assert torch.equal(logits(model, tokens), before)


def test_shared_modules_to_save_are_refused() -> None:
    """Nobody can say what the sum of two trained copies of one module is."""
    options = {"core_mask": _mask(1).restricted_to({"first.weight"}), "target_modules": ["first"]}
    model = _pair({**options, "modules_to_save": ["second"]}, {**options, "modules_to_save": ["second"]})
    with pytest.raises(ConfigurationError, match="found 1 such instance"):
        model.add_weighted_adapter(["a", "b"], [1.0, 0.5], "new", "cat")
    assert list(model.peft_config) == ["a", "b"]


@pytest.mark.parametrize("owner", ["a", "b"])
def test_a_module_to_save_goes_on(owner: str) -> None:
    """Where one adapter has a trained copy of a module, the new adapter gets its values, too."""
    options = {"core_mask": _mask(1).restricted_to({"first.weight"}), "target_modules": ["first"]}
    both = {"a": dict(options), "b": dict(options)}
    both[owner]["modules_to_save"] = ["second"]
    model = _pair(both["a"], both["b"])
    copies = model.base_model.model.second.modules_to_save
    with torch.no_grad():
        copies[owner].weight.add_(1)
    model.add_weighted_adapter(["a", "b"], [1.0, 0.5], "new", "cat")
    assert set(copies) == {owner, "new"}
    assert torch.equal(copies["new"].weight, copies[owner].weight)
    assert not copies["new"].weight.requires_grad


def test_sixteen_bit_adapters() -> None:
    """Adapters in bfloat16 are combined, in their dtype."""
    model = _pair({}, {}).bfloat16()
    for kind in ("linear", "svd", "cat"):
        model.add_weighted_adapter(["a", "b"], [1.0, 0.5], kind, kind)
        model.set_adapter(kind)
        assert model(TOKENS).dtype == torch.bfloat16
        assert model(TOKENS).isfinite().all()


@pytest.mark.parametrize(
    "adapters, weights, kind, options, error, words",
    [
        (["a", "c"], [1.0, 1.0], "cat", {}, InputError, "Adapter c does not exist"),
        (["a", "b"], [1.0], "cat", {}, InputError, "one weight for each adapter, got 2 adapters and 1"),
        ([], [], "cat", {}, InputError, "one weight for each"),
        (["a", "b"], [1.0, 1.0], "best", {}, InputError, "Invalid combination_type"),
        (["a", "b"], [1.0, 1.0], "ties", {}, InputError, "needs density"),
        (["a", "b"], [1.0, 1.0], "dare_linear_svd", {}, InputError, "needs density"),
        (["a", "b"], [1.0, 1.0], "linear", {}, ConfigurationError, "same r value"),
    ],
)
def test_wrong_combinations_are_refused(
    adapters: list[str], weights: list[float], kind: str, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    """Each refusal says why, and no adapter was added."""
    model = _pair({}, {"r": 2})
    with pytest.raises(error, match=words):
        model.add_weighted_adapter(adapters, weights, "new", kind, **options)
    assert list(model.peft_config) == ["a", "b"]
    assert not any(".new" in name for name in model.state_dict())


def test_parameters_are_refused(build_model: Wrap, make_mask: Wrap) -> None:
    """Adapters of single parameters cannot be combined yet; the message is PEFT's."""
    base = build_model("mixtral")
    config = CoreRegionConfig(core_mask=make_mask(base), target_parameters=["experts.down_proj"])
    model = get_peft_model(base, config)
    with pytest.raises(ConfigurationError, match=r"nn.Parameter \(problematic adapter 'default'\)"):
        model.add_weighted_adapter(["default"], [1.0], "new")


def test_a_rank_beyond_the_layers_sizes() -> None:
    """More rank than a layer has rows is filled with zeros; the sum is exact then."""
    model = _pair({}, {})
    model.add_weighted_adapter(["a", "b"], [1.0, -0.5], "new", "svd", svd_rank=20)
    for layer in tuner_layers(model):
        parts = layer._change(["a"], torch.float32).on(None) - 0.5 * layer._change(["b"], torch.float32).on(None)
        torch.testing.assert_close(layer._change(["new"], torch.float32).on(None), parts)
