"""Perturbations and edits of single dimensions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from hf_langcore.editing import perturb, scale_dimension, set_dimension
from hf_langcore.errors import ConfigurationError, CoreMaskMismatchError, InputError, UnsupportedModelError
from hf_langcore.importance import compute_core_mask, compute_importance
from hf_langcore.masks import CoreMask
from hf_langcore.modes import alterations, edited_masks

HOWS = ["zero", "noise", "shuffle", "mean", "reinit", "scale"]


@pytest.fixture
def core_mask(model: Any) -> CoreMask:
    return compute_core_mask(model, method="random", fraction=0.1, seed=1)


def bits(model: Any) -> dict[str, torch.Tensor]:
    whole = {2: torch.int16, 4: torch.int32}
    return {
        name: parameter.detach().clone().view(whole[parameter.element_size()])
        for name, parameter in model.named_parameters()
    }


def plant_odd_values(model: Any) -> None:
    """Values that careless restoring changes: -0.0, NaN, infinity, a subnormal."""
    odd = torch.tensor([-0.0, math.nan, math.inf, 1e-40])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layers." in name or ".h." in name:
                parameter.view(-1)[:4] = odd.to(parameter.dtype)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_bit_comes_back(model: Any, how: Any, dtype: torch.dtype) -> None:
    """Core, complement and random regions, each way: the model differs inside the block and is the same after it."""
    model.to(dtype)
    core_mask = compute_core_mask(model, method="random", fraction=0.1)
    plant_odd_values(model)
    before = bits(model)
    for region in (core_mask, core_mask.complement(), core_mask.random_like(seed=3)):
        with perturb(model, region, how=how, factor=2.0 if how == "scale" else None, base_check="off"):
            now = bits(model)
            assert any(not torch.equal(now[name], before[name]) for name in before)
            for name in region:
                outside = ~region[name]
                assert torch.equal(now[name][outside], before[name][outside]), "nothing outside the region is touched"
        assert all(torch.equal(value, before[name]) for name, value in bits(model).items())


def test_restored_also_when_the_body_raises(model: Any, core_mask: CoreMask) -> None:
    """An exception in the block leaves the model as it was and goes on."""
    before = bits(model)
    with pytest.raises(ZeroDivisionError), perturb(model, core_mask):
        raise ZeroDivisionError
    assert all(torch.equal(value, before[name]) for name, value in bits(model).items())


def test_what_each_way_does(llama: Any) -> None:
    """Zero, mean, shuffle, scale, noise and reinit write what they promise."""
    mask = compute_core_mask(llama, method="random", fraction=0.2)
    name = "model.layers.0.mlp.up_proj.weight"
    weight, inside = llama.get_parameter(name), mask[name]
    old = weight.detach().clone()

    with perturb(llama, mask, how="zero"):
        assert (weight[inside] == 0).all()
    with perturb(llama, mask, how="mean"):
        torch.testing.assert_close(weight[inside].detach(), old.mean().expand(int(inside.sum())))
    with perturb(llama, mask, how="shuffle"):
        assert torch.equal(weight[inside].detach().sort().values, old[inside].sort().values)
        assert not torch.equal(weight[inside].detach(), old[inside])
    with perturb(llama, mask, how="scale", factor=-3.0):
        assert torch.equal(weight[inside].detach(), old[inside] * -3.0)
    with perturb(llama, mask, how="noise", std=0.5):
        noise = weight[inside].detach() - old[inside]
        assert 0.35 < float(noise.std() / old.std()) < 0.65
    with perturb(llama, mask, how="reinit"):
        assert 0.7 < float(weight[inside].detach().std() / llama.config.initializer_range) < 1.3
        norm = "model.layers.0.input_layernorm.weight"
        assert (llama.get_parameter(norm)[mask[norm]] == 1).all()


def test_seeds_decide_random_ways(llama: Any) -> None:
    """The same seed gives the same damage, another seed another."""
    mask = compute_core_mask(llama, method="random", fraction=0.2)
    seen = []
    for seed in (0, 0, 1):
        with perturb(llama, mask, how="noise", seed=seed):
            seen.append(llama.model.layers[0].mlp.up_proj.weight.detach().clone())
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_handle_without_a_block(llama: Any) -> None:
    """Outside a `with` block an edit stays until `restore()`, which may be called twice."""
    mask = compute_core_mask(llama, method="random", fraction=0.2)
    before = bits(llama)
    handle = perturb(llama, mask)
    assert handle.is_open
    assert handle.num_edited == mask.count()
    assert "weights edited" in repr(handle)
    handle.restore()
    handle.restore()
    assert not handle.is_open
    assert all(torch.equal(value, before[name]) for name, value in bits(llama).items())


def test_norm_dimensions(llama: Any) -> None:
    """A norm weight is scaled and set; a module name means its weight."""
    weight = llama.model.layers[1].input_layernorm.weight
    with scale_dimension(llama, "model.layers.1.input_layernorm", 7, factor=10):
        assert weight[7] == 10
        assert weight.sum() == weight.numel() + 9
    with set_dimension(llama, "model.layers.1.input_layernorm.weight", [3, 4], value=-2):
        assert weight[3:5].tolist() == [-2, -2]
    assert (weight == 1).all()


def test_effective_gain_of_norms_that_add_one() -> None:
    """Gemma multiplies by 1 + weight: it is this gain that is scaled and set."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    gemma = Gemma3ForCausalLM(config)
    weight = gemma.model.layers[1].input_layernorm.weight
    assert (weight == 0).all()
    with scale_dimension(gemma, "model.layers.1.input_layernorm", 5, factor=10):
        assert weight[5] == 9
    with set_dimension(gemma, "model.layers.1.input_layernorm", 5, value=1):
        assert weight[5] == 0
    with set_dimension(gemma, "model.layers.1.input_layernorm", 5, value=0):
        assert weight[5] == -1
    mask = CoreMask({"model.layers.1.input_layernorm.weight": torch.arange(32) == 5})
    for how, factor, stored in (("zero", None, -1), ("scale", 10.0, 9), ("reinit", None, 0)):
        with perturb(gemma, mask, how=how, factor=factor):
            assert weight[5] == stored


@pytest.mark.parametrize("axis", [0, 1])
def test_axes_mean_the_same_on_linear_and_conv1d(axis: int, llama: Any, gpt2: Any) -> None:
    """axis=0 is an output and axis=1 an input, also where GPT-2 stores the weight the other way round."""
    linear, conv = llama.model.layers[0].mlp.down_proj, gpt2.transformer.h[0].mlp.c_proj
    for model, name, module, stored_axis in (
        (llama, "model.layers.0.mlp.down_proj", linear, axis),
        (gpt2, "transformer.h.0.mlp.c_proj", conv, 1 - axis),
    ):
        inputs = torch.randn(3, module.weight.shape[1 if model is llama else 0])
        plain = module(inputs)
        with scale_dimension(model, name, 2, factor=0, axis=axis):
            edited = module(inputs)
            assert (module.weight.select(stored_axis, 2) == 0).all()
            assert int((module.weight == 0).sum()) == module.weight.select(stored_axis, 2).numel()
        if axis == 0:
            changed = (plain - edited).abs().sum(0) > 1e-6
            assert changed.nonzero().flatten().tolist() == [2]
        else:
            inputs[:, 2] = 0
            torch.testing.assert_close(edited, plain - (plain - module(inputs)), atol=1e-5, rtol=1e-5)


def test_wrong_dimensions_are_named(llama: Any, gpt2: Any) -> None:
    """A missing axis, an index out of range, an unknown name: the error says what there is."""
    norm, matrix = "model.layers.0.input_layernorm", "model.layers.0.mlp.up_proj"
    with pytest.raises(InputError, match="0 to 31"):
        scale_dimension(llama, norm, 32, factor=2)
    with pytest.raises(InputError, match="0 to 31"):
        scale_dimension(llama, norm, -1, factor=2)
    with pytest.raises(InputError, match="which axis"):
        scale_dimension(llama, matrix, 0, factor=2)
    with pytest.raises(InputError, match="axis=2"):
        scale_dimension(llama, matrix, 0, factor=2, axis=2)
    with pytest.raises(InputError, match=r"layers\.0\.input_layernorm"):
        scale_dimension(llama, "model.layers.0.input_layer_norm", 0, factor=2)
    with pytest.raises(InputError, match="fuse"):
        scale_dimension(gpt2, "transformer.h.0.attn.q_proj", 0, factor=2, axis=0)
    with pytest.raises(InputError, match="finite"):
        scale_dimension(llama, norm, 0, factor=math.nan)
    with pytest.raises(InputError, match="finite"):
        set_dimension(llama, norm, 0, value=math.inf)


def test_tied_weights_are_announced(gpt2: Any) -> None:
    """The second name of a tied weight is refused, the first one warns."""
    with pytest.raises(UnsupportedModelError, match="tied"):
        scale_dimension(gpt2, "lm_head", 0, factor=2, axis=0)
    with pytest.warns(UserWarning, match="tied to 'lm_head.weight'"):
        handle = scale_dimension(gpt2, "transformer.wte", 0, factor=2, axis=0)
    handle.restore()


def test_wrong_perturbations_are_named(llama: Any, gpt2: Any) -> None:
    """Wrong regions, ways and factors are refused before anything is touched."""
    mask = compute_core_mask(llama, method="random", fraction=0.1)
    before = bits(llama)
    with pytest.raises(InputError, match="CoreMask"):
        perturb(llama, "core")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="how must be"):
        perturb(llama, mask, how="explode")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="factor"):
        perturb(llama, mask, how="scale")
    with pytest.raises(ConfigurationError, match="factor"):
        perturb(llama, mask, how="zero", factor=2)
    with pytest.raises(CoreMaskMismatchError, match="another architecture"):
        perturb(gpt2, mask)
    assert all(torch.equal(value, before[name]) for name, value in bits(llama).items())


def test_a_mask_of_other_weights_is_refused(llama: Any) -> None:
    """The fingerprint tells that a mask was found on other weights of the same architecture."""
    mask = compute_core_mask(llama, method="random", fraction=0.1)
    with torch.no_grad():
        llama.model.layers[0].mlp.up_proj.weight.mul_(1.01)
    with pytest.raises(CoreMaskMismatchError, match="other weights"):
        perturb(llama, mask)
    with pytest.warns(UserWarning, match="other weights"):
        perturb(llama, mask, base_check="warn").restore()
    perturb(llama, mask, base_check="off").restore()


def test_a_core_hurts_more_than_the_bottom(llama: Any, tokenizer: Any, texts: Any) -> None:
    """An edit is felt: the loss moves with the region that is zeroed, and comes back."""
    from hf_langcore.evaluation import evaluate_perplexity

    scores = compute_importance(llama, tokenizer, texts, block_size=16, progress=False)
    base = evaluate_perplexity(llama, tokenizer, texts, progress=False).mean()
    moved = {}
    for which in ("top", "bottom"):
        with perturb(llama, CoreMask.from_scores(scores, fraction=0.2, which=which)):
            moved[which] = abs(evaluate_perplexity(llama, tokenizer, texts, progress=False).mean() - base)
    assert moved["top"] > 2 * moved["bottom"] > 0
    assert evaluate_perplexity(llama, tokenizer, texts, progress=False).mean() == base


@pytest.mark.parametrize("granularity", ["weights", "rows"])
def test_edits_name_their_mask(llama: Any, granularity: Any) -> None:
    """Masks are noted by digest; what is drawn from them, and dimensions, are not."""
    core_mask = compute_core_mask(llama, method="magnitude", fraction=0.1, granularity=granularity)
    with perturb(llama, core_mask), scale_dimension(llama, "model.norm", 1, factor=2):
        assert edited_masks(llama) == [core_mask.digest()]
        assert len(alterations(llama)) == 2
    drawn = core_mask.random_like(seed=2)
    for region in (core_mask.complement(), drawn, core_mask.complement() & drawn):
        with perturb(llama, region):
            assert (edited_masks(llama), len(alterations(llama))) == ([], 1)
    assert alterations(llama) == []
