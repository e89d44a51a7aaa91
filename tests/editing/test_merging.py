"""Edits of adapted models act on the effective weights and leave adapter and base as they were."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from hf_langcore import CoreRegionConfig
from hf_langcore.editing import perturb, scale_dimension
from hf_langcore.errors import UnsupportedModelError
from hf_langcore.importance import compute_core_mask

IDS = torch.arange(3, 19).view(2, 8)


def adapted(model: Any, config: Any) -> Any:
    """A model with an adapter that does something."""
    wrapped = get_peft_model(model, config)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name or "core_region_" in name:
                parameter.copy_(0.1 * torch.randn_like(parameter))
    return wrapped.eval()


def bits(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone().view(torch.uint8) for name, value in model.state_dict().items()}


@pytest.fixture(params=["lora", "core_region"])
def wrapped(request: pytest.FixtureRequest, llama: Any) -> tuple[Any, Any]:
    mask = compute_core_mask(llama, method="random", fraction=0.1)
    if request.param == "lora":
        return adapted(llama, LoraConfig(target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM")), mask
    return adapted(llama, CoreRegionConfig(core_mask=mask, r=4, task_type="CAUSAL_LM")), mask


def test_effective_weights_are_edited(wrapped: tuple[Any, Any]) -> None:
    """Zeroing everything outside the core also silences what the adapter adds there."""
    model, mask = wrapped
    before, plain = bits(model), model(input_ids=IDS).logits
    layer = model.base_model.model.model.layers[0].mlp.up_proj
    with perturb(model, mask.complement()):
        outside = ~mask["model.layers.0.mlp.up_proj.weight"]
        identity = torch.eye(layer.in_features)
        effective = layer(identity).T
        assert (effective[outside] == 0).all()
        assert not torch.equal(model(input_ids=IDS).logits, plain)
    assert torch.equal(model(input_ids=IDS).logits, plain)
    assert all(torch.equal(value, before[name]) for name, value in bits(model).items())
    assert not layer.merged


def test_names_are_those_of_the_bare_model(wrapped: tuple[Any, Any]) -> None:
    """Wrapped models are edited by the names of the bare model; a disabled adapter stays out of it."""
    model, _ = wrapped
    before = bits(model)
    with scale_dimension(model, "model.layers.0.mlp.up_proj", 3, factor=0, axis=0):
        out = model.base_model.model.model.layers[0].mlp.up_proj(torch.randn(4, 32))
        assert (out[:, 3] == 0).all()
    with model.disable_adapter(), scale_dimension(model, "model.layers.0.input_layernorm", 3, factor=0):
        assert not model.base_model.model.model.layers[0].mlp.up_proj.merged
    assert all(torch.equal(value, before[name]) for name, value in bits(model).items())


def test_failed_edits_take_the_adapter_out_again(wrapped: tuple[Any, Any]) -> None:
    """A wrong edit of an adapted model leaves adapter and base as they were."""
    model, mask = wrapped
    before = bits(model)
    with pytest.raises(RuntimeError), perturb(model, mask):
        raise RuntimeError
    with torch.no_grad():
        assert all(torch.equal(value, before[name]) for name, value in bits(model).items())


def test_adapters_taken_out_in_the_body(llama: Any) -> None:
    """LoRA unmerges itself when it is disabled; the base still comes back bit for bit."""
    mask = compute_core_mask(llama, method="random", fraction=0.1)
    model = adapted(llama, LoraConfig(target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM"))
    before = bits(model)
    with perturb(model, mask), model.disable_adapter():
        model(input_ids=IDS)
    assert all(torch.equal(value, before[name]) for name, value in bits(model).items())
    with perturb(model, mask):
        model.unmerge_adapter()
    assert all(torch.equal(value, before[name]) for name, value in bits(model).items())


def test_nested_edits_of_adapted_models(wrapped: tuple[Any, Any]) -> None:
    """An inner perturbation knows the base although the adapter is merged for the outer one."""
    model, mask = wrapped
    before = bits(model)
    with perturb(model, mask), perturb(model, mask.random_like()):
        pass
    assert all(torch.equal(value, before[name]) for name, value in bits(model).items())


def test_weights_that_the_adapter_replaces_are_refused(llama: Any) -> None:
    """A module to save is a copy: an edit of the model's own weight would change nothing, so it is an error."""
    config = LoraConfig(target_modules=["q_proj"], modules_to_save=["input_layernorm"], task_type="CAUSAL_LM")
    model = adapted(llama, config)
    before = bits(model)
    with pytest.raises(UnsupportedModelError, match="modules_to_save"):
        scale_dimension(model, "model.layers.0.input_layernorm", 3, factor=2)
    assert all(torch.equal(value, before[name]) for name, value in bits(model).items())
    with model.disable_adapter(), scale_dimension(model, "model.layers.0.input_layernorm", 3, factor=2):
        pass
    assert all(torch.equal(value, before[name]) for name, value in bits(model).items())


def test_trainable_tokens_keep_the_bare_names(llama: Any) -> None:
    """PEFT's trainable tokens do not hide the embeddings' name."""
    mask = compute_core_mask(llama, method="random", fraction=0.1, include="embeddings")
    model = adapted(llama, LoraConfig(target_modules=["q_proj"], trainable_token_indices=[1], task_type="CAUSAL_LM"))
    before = bits(model)
    with perturb(model, mask):
        pass
    assert all(torch.equal(value, before[name]) for name, value in bits(model).items())
