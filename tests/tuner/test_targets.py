from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
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
