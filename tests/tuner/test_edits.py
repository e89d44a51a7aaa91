from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hf_langcore.architecture import bare_weights
from hf_langcore.errors import InputError

Wrap = Callable[..., Any]

NAME = "model.layers.0.mlp.up_proj.weight"


def _weight(model: Any, name: str = NAME) -> torch.Tensor:
    return bare_weights(model)[name].parameter.detach().clone()


@pytest.fixture
def model(llama: Any, make_mask: Wrap, make_wrapped: Wrap) -> Any:
    return make_wrapped(llama, make_mask(llama))


@pytest.mark.parametrize("region", ["core", "complement", "random", "mask"])
def test_regions(region: str, model: Any, snapshot: Callable[..., Any]) -> None:
    """Each word means a region of the active adapter's mask; leaving the block restores every bit."""
    before, mask = snapshot(model), model.core_mask
    chosen = {
        "core": mask,
        "complement": mask.complement(),
        "random": mask.random_like(seed=4),
        "mask": mask.random_like(seed=9),
    }[region]
    with model.perturb(chosen if region == "mask" else region, how="zero", seed=4):
        for name in (NAME, "model.layers.1.input_layernorm.weight"):
            assert (_weight(model, name)[chosen[name]] == 0).all()
        assert (_weight(model)[~chosen[NAME]] != 0).all()
    after = snapshot(model)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_edits_act_on_the_effective_weights(model: Any, tokens: torch.Tensor) -> None:
    """With an active adapter, zeroing the complement leaves the core of the base and nothing of the adapter."""
    adapted = model(tokens).logits
    with model.perturb("complement"):
        weight = _weight(model)
        assert (weight[~model.core_mask[NAME]] == 0).all()
        assert (weight[model.core_mask[NAME]] != 0).all()
        assert not torch.allclose(model(tokens).logits, adapted)
    assert torch.equal(model(tokens).logits, adapted)


def test_dimensions(model: Any) -> None:
    """scale_dimension and set_dimension are those of hf_langcore.editing, on the wrapped model's bare names."""
    norm = "model.layers.1.input_layernorm"
    with model.scale_dimension(norm, 3, factor=10):
        assert _weight(model, f"{norm}.weight")[3] == 10
    with model.set_dimension(norm, 3, value=0.5):
        assert _weight(model, f"{norm}.weight")[3] == 0.5
    with model.set_dimension(NAME, 2, value=0.0, axis=0):
        assert (_weight(model)[2] == 0).all()
    assert _weight(model, f"{norm}.weight")[3] == 1
    assert (_weight(model)[2] != 0).all()


def test_options_are_passed_on(model: Any) -> None:
    """how, factor, std and seed reach the edit."""
    core = model.core_mask[NAME]
    model.base_model.set_adapter([])  # the base weights, so that factors can be compared exactly
    before = _weight(model)
    mask = model.peft_config["default"].core_mask
    with model.perturb(mask, how="scale", factor=2.0):
        assert torch.equal(_weight(model)[core], 2 * before[core])
    noisy = []
    for seed in (1, 1, 2):
        with model.perturb(mask, how="noise", std=0.5, seed=seed):
            noisy.append(_weight(model))
    assert torch.equal(noisy[0], noisy[1])
    assert not torch.equal(noisy[0], noisy[2])


def test_unknown_regions(model: Any) -> None:
    """The message lists the words."""
    with pytest.raises(InputError, match='"core", "complement", "random" or a CoreMask'):
        model.perturb("cortex")
