from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.error import NoMatchingPeftModuleError
from torch import nn

from hf_langcore.architecture import bare_weights
from hf_langcore.errors import (
    ConfigurationError,
    CoreMaskMismatchError,
    InputError,
    LangCoreError,
    UnsupportedModelError,
)
from hf_langcore.masks import CoreMask
from hf_langcore.tuner import CoreRegionConfig
from hf_langcore.tuner.targets import NoTargetError, Targets

Wrap = Callable[..., Any]


def _adapted(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if type(module).__name__ == "CoreRegionLinear"}


def _refused(model: Any, error: type[Exception], words: str, **options: Any) -> None:
    """Wrapping raises, and the model is what it was: no layer replaced, no parameter frozen."""
    before = [(name, type(module)) for name, module in model.named_modules()]
    with pytest.raises(error, match=words) as caught:
        get_peft_model(model, CoreRegionConfig(**options))
    assert isinstance(caught.value, LangCoreError)
    assert isinstance(caught.value, ValueError)
    assert [(name, type(module)) for name, module in model.named_modules()] == before
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_none_means_every_covered_linear_layer(any_model: Any, make_mask: Callable[..., CoreMask]) -> None:
    """Without names all linear layers of the decoder are adapted, whatever the architecture calls them."""
    linear = {
        f"base_model.model.{name}"
        for name, module in any_model.named_modules()
        if type(module).__name__ in {"Linear", "Conv1D"} and name != "lm_head"
    }
    model = get_peft_model(any_model, CoreRegionConfig(core_mask=make_mask(any_model)))
    assert _adapted(model) == linear


def test_none_means_covered_ones_only(llama: Any, make_mask: Callable[..., CoreMask]) -> None:
    """A mask over a part of the model adapts that part."""
    names = {"model.layers.0.mlp.up_proj.weight", "model.layers.1.self_attn.q_proj.weight", "model.norm.weight"}
    model = get_peft_model(llama, CoreRegionConfig(core_mask=make_mask(llama).restricted_to(names)))
    assert _adapted(model) == {
        "base_model.model.model.layers.0.mlp.up_proj",
        "base_model.model.model.layers.1.self_attn.q_proj",
    }


@pytest.mark.parametrize(
    "options, count",
    [
        ({"target_modules": ["q_proj"]}, 2),
        ({"target_modules": ["q_proj", "model.layers.1.mlp.up_proj"]}, 3),
        ({"target_modules": r".*\.1\.mlp\..*_proj"}, 3),
        ({"target_modules": "all-linear"}, 14),
        ({"target_modules": "ALL-LINEAR", "exclude_modules": ["mlp.up_proj"]}, 12),
        ({"exclude_modules": ["up_proj", "down_proj"]}, 10),
        ({"exclude_modules": r".*mlp.*"}, 8),
        ({"layers_to_transform": [1]}, 7),
        ({"layers_to_transform": 0, "layers_pattern": "layers"}, 7),
        ({"target_modules": ["q_proj", "k_proj"], "layers_to_transform": [0]}, 2),
        ({"modules_to_save": ["lm_head"]}, 14),
    ],
)
def test_names_work_as_in_lora(
    options: dict[str, Any], count: int, llama: Any, make_mask: Callable[..., CoreMask]
) -> None:
    """Endings, full names, regular expressions, all-linear, exclusion and layer numbers pick what LoRA would pick."""
    model = get_peft_model(llama, CoreRegionConfig(core_mask=make_mask(llama), **options))
    assert len(_adapted(model)) == count
    assert len(model.base_model.targeted_module_names) == count


def test_all_linear_on_an_adapted_model(llama: Any, make_wrapped: Wrap, make_mask: Callable[..., CoreMask]) -> None:
    """A second adapter finds the same layers, although they are wrapped now."""
    model = make_wrapped(llama)
    config = CoreRegionConfig(core_mask=make_mask(llama), target_modules="all-linear")
    model.add_adapter("second", config)
    assert len(_adapted(model)) == 14
    assert all("second" in module.r for module in model.modules() if hasattr(module, "core_region_mask"))


def test_a_target_outside_the_mask_is_refused(llama: Any, make_mask: Callable[..., CoreMask]) -> None:
    """Nobody knows the core of a tensor that the mask does not cover."""
    mask = make_mask(llama)
    _refused(llama, CoreMaskMismatchError, "'lm_head' is targeted", core_mask=mask, target_modules=["lm_head"])
    part = mask.restricted_to({"model.layers.0.mlp.up_proj.weight"})
    _refused(llama, CoreMaskMismatchError, "does not cover", core_mask=part, target_modules="all-linear")


def test_a_target_of_another_kind_is_refused(llama: Any, make_mask: Callable[..., CoreMask]) -> None:
    """Norms and whole blocks cannot be adapted."""
    for name, kind in (("input_layernorm", "LlamaRMSNorm"), ("mlp", "LlamaMLP")):
        _refused(llama, UnsupportedModelError, f"is a {kind}", core_mask=make_mask(llama), target_modules=[name])


def test_a_target_that_is_not_there_is_refused(llama: Any, make_mask: Callable[..., CoreMask]) -> None:
    """The message is PEFT's, and the error is PEFT's, too."""
    words = "Target modules .* not found in the base model"
    _refused(llama, NoMatchingPeftModuleError, words, core_mask=make_mask(llama), target_modules=["nothing"])
    _refused(llama, NoTargetError, "layers_to_transform=9", core_mask=make_mask(llama), layers_to_transform=9)
    words = "All modules were excluded"
    _refused(llama, NoTargetError, words, core_mask=make_mask(llama), target_modules=["q_proj"], exclude_modules=".*")


def test_a_mask_without_linear_layers_is_refused(llama: Any, make_mask: Callable[..., CoreMask]) -> None:
    """A mask of norms only leaves nothing to adapt."""
    mask = make_mask(llama).restricted_to({"model.layers.0.input_layernorm.weight"})
    _refused(llama, NoTargetError, "covers no linear layer", core_mask=mask)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")  # PEFT says so first
def test_unknown_integer_weights_are_refused() -> None:
    """Integers that no quantisation library explains have no value to change."""
    model = nn.Sequential(nn.Linear(4, 4, bias=False))
    model[0].weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.int8), requires_grad=False)
    mask = CoreMask({"0.weight": torch.zeros(4, 4, dtype=torch.bool)})
    with pytest.raises(UnsupportedModelError, match="dtype torch"):
        get_peft_model(model, CoreRegionConfig(core_mask=mask, target_modules=["0"]))


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`", "ignore:You are trying to modify a model")
def test_layers_of_another_method_are_refused(llama: Any, make_mask: Callable[..., CoreMask]) -> None:
    """Two methods on one layer would change each other's base weight."""
    get_peft_model(llama, LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(UnsupportedModelError, match="q_proj"):
        get_peft_model(llama, CoreRegionConfig(core_mask=make_mask(llama), target_modules=["q_proj"]))


def test_the_mask_of_another_model_is_refused(
    llama: Any, gpt2: Any, make_mask: Callable[..., CoreMask], build_model: Callable[[str], Any]
) -> None:
    """Other names, other shapes and other weights are noticed before anything is wrapped."""
    _refused(llama, CoreMaskMismatchError, "another architecture", core_mask=make_mask(gpt2))
    config = get_peft_model(build_model("llama"), CoreRegionConfig(method="magnitude")).peft_config["default"]
    with torch.no_grad():
        llama.model.layers[0].mlp.up_proj.weight.add_(1)
    _refused(llama, CoreMaskMismatchError, "other weights", core_mask=config.core_mask)
    with pytest.warns(UserWarning, match="other weights"):
        get_peft_model(llama, CoreRegionConfig(core_mask=config.core_mask, base_check="warn")).unload()
    get_peft_model(llama, CoreRegionConfig(core_mask=config.core_mask, base_check="off"))


def test_no_source_is_refused(llama: Any) -> None:
    """Without a mask or a recipe there is no core to protect."""
    _refused(llama, ConfigurationError, "does not say what the core is")


def test_core_weights_are_not_trained_in_full(llama: Any, make_mask: Callable[..., CoreMask]) -> None:
    """modules_to_save must not contain core weights, nor a whole layer of them."""
    mask = make_mask(llama)
    for name in ("input_layernorm", "layers.0", "up_proj"):
        options = {"core_mask": mask, "target_modules": ["q_proj"], "modules_to_save": [name]}
        _refused(llama, ConfigurationError, "modules_to_save trains", **options)


def test_modules_without_core_can_be_trained_in_full(llama: Any, make_mask: Callable[..., CoreMask]) -> None:
    """The LM head is outside the mask, and a norm may be inside it with no core weight."""
    mask = make_mask(llama)
    norm = "model.layers.0.input_layernorm.weight"
    tensors = {name: mask[name] & (name != norm) for name in mask}
    config = CoreRegionConfig(core_mask=CoreMask(tensors), modules_to_save=["lm_head", "layers.0.input_layernorm"])
    model = get_peft_model(llama, config)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("lm_head.modules_to_save" in name for name in trainable)
    assert any("input_layernorm.modules_to_save" in name for name in trainable)


@pytest.mark.parametrize("tokens", [[1, 2], {"embed_tokens": [1, 2]}])
def test_core_tokens_are_not_trained(tokens: Any, llama: Any, make_mask: Callable[..., CoreMask]) -> None:
    """Rows of the embeddings with core weights are refused; others can be trained."""
    mask = make_mask(llama)
    rows = torch.zeros(61, 24, dtype=torch.bool)
    rows[2, 5] = True
    tensors = {**mask, "model.embed_tokens.weight": rows}
    options = {"core_mask": CoreMask(tensors), "target_modules": ["q_proj"]}
    _refused(llama, ConfigurationError, "trains rows of", **options, trainable_token_indices=tokens)
    get_peft_model(llama, CoreRegionConfig(**options, trainable_token_indices=[3, 4]))


@pytest.mark.parametrize(
    "patterns",
    [
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"up_proj": 3}},
        {"rank_pattern": {"model.layers.1.self_attn.q_proj": 5, "q_proj": 3}},
        {"rank_pattern": {r".*\.0\..*": 6}, "alpha_pattern": {r"layers\.1\.mlp\.up_proj": 1, "q_proj": 32}},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 3}, "use_rslora": True},
    ],
)
def test_patterns_choose_as_in_lora(
    patterns: dict[str, Any], llama: Any, build_model: Callable[..., Any], make_mask: Callable[..., CoreMask]
) -> None:
    """Endings, full names and regular expressions give every layer the rank and the scaling that LoRA gives it."""
    options = {"target_modules": ["q_proj", "up_proj"], "r": 4, "lora_alpha": 8, **patterns}
    ours = get_peft_model(llama, CoreRegionConfig(core_mask=make_mask(llama), **options))
    lora = get_peft_model(build_model("llama"), LoraConfig(**options))
    expected = {
        name: (module.r["default"], module.scaling["default"])
        for name, module in lora.named_modules()
        if hasattr(module, "lora_A") and hasattr(module, "scaling")
    }
    found = {name: module for name, module in ours.named_modules() if hasattr(module, "core_region_mask")}
    assert {name: (module.r["default"], module.scaling["default"]) for name, module in found.items()} == expected
    assert len(set(expected.values())) > 1
    for name, module in found.items():
        assert module.core_region_A["default"].shape[0] == expected[name][0]
        assert module.core_region_B["default"].shape[1] == expected[name][0]


def test_a_rank_of_zero_makes_single_layers_dense(
    llama: Any, make_mask: Callable[..., CoreMask], tokens: torch.Tensor
) -> None:
    """Dense and low-rank layers may stand in one adapter; a dense one is scaled by 1."""
    options: dict[str, Any] = {"rank_pattern": {"up_proj": 0}, "lora_alpha": 32, "init_weights": False}
    model = get_peft_model(llama, CoreRegionConfig(core_mask=make_mask(llama), **options))
    layer = llama.model.layers[0].mlp
    assert list(layer.up_proj.core_region_delta) == ["default"]
    assert list(layer.up_proj.core_region_A) == []
    assert list(layer.down_proj.core_region_A) == ["default"]
    assert layer.up_proj.scaling["default"] == 1.0
    adapted = model(tokens).logits
    model.merge_adapter()
    torch.testing.assert_close(model(tokens).logits, adapted, rtol=1e-4, atol=1e-4)


def test_patterns_that_match_nothing_are_told(llama: Any, make_mask: Callable[..., CoreMask]) -> None:
    """PEFT warns of them."""
    config = CoreRegionConfig(core_mask=make_mask(llama), rank_pattern={"nothing": 2})
    with pytest.warns(RuntimeWarning, match="rank_pattern keys did not match"):
        get_peft_model(llama, config)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"modules_to_save": ["up_proj"]}, "modules_to_save trains 'model.layers.0.mlp.up_proj' in full"),
        ({"trainable_token_indices": [2, 3]}, "trainable_token_indices trains rows of .* 7 of the weights"),
        ({"trainable_token_indices": {"embed_tokens": [2]}}, "trains rows of 'model.embed_tokens' in full"),
    ],
)
def test_core_changes_may_be_allowed(
    options: dict[str, Any], words: str, llama: Any, make_mask: Callable[..., CoreMask], tokens: torch.Tensor
) -> None:
    """With allow_core_changes what is trained in full may contain core weights; the user is told how many."""
    rows = torch.zeros(61, 24, dtype=torch.bool)
    rows[2, :7] = True
    mask = CoreMask({**make_mask(llama), "model.embed_tokens.weight": rows})
    common = {"core_mask": mask, "target_modules": ["q_proj"], **options}
    _refused(llama, ConfigurationError, "allow_core_changes=True", **common)
    with pytest.warns(UserWarning, match=f"Core weights will change.*{words}"):
        model = get_peft_model(llama, CoreRegionConfig(**common, allow_core_changes=True))
    model(tokens, labels=tokens).loss.backward()
    trained = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert any("modules_to_save" in name or "trainable_tokens" in name for name in trained)
    assert any("core_region_A" in name for name in trained)


class Plain(nn.Module):
    """A model that transformers does not know, with a list of layers that nobody says are decoder layers."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(9, 8)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.head = nn.Linear(8, 3)
        with torch.no_grad():
            self.layers[0].weight.mul_(scale)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.table(tokens)
        for layer in self.layers:
            hidden = torch.relu(layer(hidden))
        output: torch.Tensor = self.head(hidden)
        return output


@pytest.mark.parametrize("method", ["magnitude", "random"])
def test_computed_masks_of_plain_modules(method: str) -> None:
    """Without a transformers config the mask covers the targets, whatever they are, and nothing else."""
    options = {
        "method": method,
        "fraction": 0.25,
        "target_modules": ["table", "layers.1"],
        "modules_to_save": ["head"],
    }
    model = get_peft_model(Plain(), CoreRegionConfig(**options))
    mask = model.core_mask
    assert set(mask) == {"table.weight", "layers.1.weight"}
    assert {name: mask.count(name) for name in mask} == {"table.weight": 18, "layers.1.weight": 16}
    largest = Plain().table.weight.detach().abs().flatten().topk(18).indices.sort().values
    chosen = mask["table.weight"].flatten().nonzero().flatten()
    assert torch.equal(chosen, largest) == (method == "magnitude")
    sequence = get_peft_model(
        nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), CoreRegionConfig(method=method, target_modules=["1"])
    )
    assert list(sequence.core_mask) == ["1.weight"]


def test_computed_masks_of_language_models(llama: Any) -> None:
    """In a transformers model the mask covers the decoder layers, and targets elsewhere, too."""
    decoder = {name for name in bare_weights(llama) if "layers." in name}
    options = {"method": "magnitude", "target_modules": ["q_proj", "embed_tokens", "lm_head"]}
    model = get_peft_model(llama, CoreRegionConfig(**options))
    assert set(model.core_mask) == decoder | {"model.embed_tokens.weight", "lm_head.weight"}


@pytest.mark.parametrize("method", ["magnitude", "random"])
def test_one_recipe_serves_many_models(method: str, tmp_path: Path) -> None:
    """A config with a recipe can be used again; each model gets its own mask and saves that one."""
    config = CoreRegionConfig(method=method, fraction=0.25, target_modules=["layers.0"])
    first = get_peft_model(Plain(), config)
    other = Plain()
    with torch.no_grad():
        other.layers[0].weight.copy_(other.layers[0].weight.flip(0))
    second = get_peft_model(other, config)
    second.add_adapter("again", config)
    assert first.peft_config["default"] is config
    first.save_pretrained(str(tmp_path))
    assert CoreMask.from_pretrained(tmp_path) == first.core_mask
    same = torch.equal(first.core_mask["layers.0.weight"], second.core_mask["layers.0.weight"])
    assert same == (method == "random")
    assert second.peft_config["again"].core_mask == second.peft_config["default"].core_mask


def test_a_computed_mask_is_saved_with_its_recipe(
    llama: Any, build_model: Callable[..., Any], tokens: torch.Tensor, tmp_path: Path
) -> None:
    """Loading takes the saved bits and computes nothing, so that other weights give a warning and the same core."""
    options: dict[str, Any] = {"method": "magnitude", "fraction": 0.1, "target_modules": ["q_proj"]}
    model = get_peft_model(llama, CoreRegionConfig(**options, init_weights=False))
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(build_model("llama"), str(tmp_path))
    assert loaded.core_mask == model.core_mask
    assert loaded.peft_config["default"].method == "magnitude"
    assert torch.equal(loaded(tokens).logits, model(tokens).logits)
    other = build_model("llama")
    with torch.no_grad():
        other.model.layers[0].self_attn.q_proj.weight.add_(torch.randn(24, 24))
    with pytest.warns(UserWarning, match="other weights"):
        loaded = PeftModel.from_pretrained(other, str(tmp_path))
    assert loaded.core_mask == model.core_mask


def test_an_embedding_outside_the_mask_is_refused(llama: Any, make_mask: Callable[..., CoreMask]) -> None:
    """Embeddings can be adapted where the mask covers them, and only there."""
    options = {"core_mask": make_mask(llama), "target_modules": ["embed_tokens", "q_proj"]}
    _refused(llama, CoreMaskMismatchError, "'model.embed_tokens' is targeted", **options)


def test_none_means_linear_layers_only(llama: Any, make_full_mask: Callable[..., CoreMask]) -> None:
    """Without names neither embeddings nor the LM head are adapted, although the mask covers them."""
    model = get_peft_model(llama, CoreRegionConfig(core_mask=make_full_mask(llama)))
    assert len(_adapted(model)) == 14
    kinds = {type(module).__name__ for module in model.modules() if hasattr(module, "core_region_mask")}
    assert kinds == {"CoreRegionLinear"}


def test_a_merged_adapter_is_in_the_way(llama: Any, make_wrapped: Wrap, make_mask: Callable[..., CoreMask]) -> None:
    """With an adapter merged the base weights are not there to be checked."""
    mask = make_mask(llama)
    model = make_wrapped(llama, mask)
    model.merge_adapter()
    with pytest.raises(ConfigurationError, match="unmerge_adapter"):
        model.add_adapter("second", CoreRegionConfig(core_mask=mask))
    assert list(model.peft_config) == ["default"]


def test_a_description_needs_names(llama: Any, make_mask: Callable[..., CoreMask]) -> None:
    """Where only the description of a mask is known, None cannot be resolved."""
    values = CoreRegionConfig(core_mask=make_mask(llama)).to_dict()
    _refused(llama, ConfigurationError, "target_modules is needed", **{**values, "inference_mode": True})


def test_names_are_those_of_the_bare_model(llama: Any, make_wrapped: Wrap, make_mask: Callable[..., CoreMask]) -> None:
    """Names do not change when adapters come around the weights."""
    mask = make_mask(llama)
    names = set(bare_weights(llama))
    model = make_wrapped(llama, mask)
    targets = Targets.of(model, mask, base_check="off")
    assert set(targets.names.values()) == names
    layer = llama.model.layers[0].mlp.up_proj
    assert targets.name_of("x", layer) == "model.layers.0.mlp.up_proj.weight"
    assert targets.core("model.layers.0.mlp.up_proj.weight") is mask.packed("model.layers.0.mlp.up_proj.weight")


def test_errors_are_value_errors() -> None:
    """Who only knows PEFT catches them as PEFT's."""
    assert issubclass(NoTargetError, (InputError,))
    assert issubclass(NoTargetError, NoMatchingPeftModuleError)
