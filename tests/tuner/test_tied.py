from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from hf_langcore.architecture import bare_weights
from hf_langcore.errors import CoreMaskMismatchError
from hf_langcore.masks import CoreMask
from hf_langcore.tuner import CoreRegionConfig
from hf_langcore.tuner.layer import tuner_layers

Wrap = Callable[..., Any]
Bits = dict[str, torch.Tensor]

pytestmark = [
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
    pytest.mark.filterwarnings("ignore:Model with `tie_word_embeddings=True`"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`"),
]

NAMES = {
    "llama-tied": ("embed_tokens", "lm_head"),
    "gpt2": ("wte", "lm_head"),
    "opt": ("embed_tokens", "lm_head"),
    "gemma3": ("embed_tokens", "lm_head"),
}
KINDS = pytest.mark.parametrize("kind", NAMES)
WHICH = pytest.mark.parametrize("which", ["embeddings", "head", "both"])


def _targets(kind: str, which: str) -> list[str]:
    names = {"embeddings": NAMES[kind][:1], "head": NAMES[kind][1:], "both": NAMES[kind]}[which]
    return list(names)


def _base(build: Wrap, kind: str) -> Any:
    base = build(kind)
    assert base.get_input_embeddings().weight is base.get_output_embeddings().weight
    return base


def _table(base: Any) -> str:
    """Name of the tied table."""
    table = base.get_input_embeddings().weight
    return next(name for name, weight in bare_weights(base).items() if weight.parameter is table)


def _wrapped(base: Any, mask: CoreMask, kind: str, which: str, **options: Any) -> Any:
    config = {"target_modules": _targets(kind, which), "init_weights": False, **options}
    return get_peft_model(base, CoreRegionConfig(core_mask=mask, **config)).eval()


@KINDS
@WHICH
def test_each_user_has_its_own_change(
    kind: str, which: str, build_model: Wrap, make_full_mask: Wrap, tokens: torch.Tensor, logits: Wrap
) -> None:
    """The adapter of the embeddings leaves the head as it is, and the other way round, merged or not."""
    base = _base(build_model, kind)
    mask = make_full_mask(base)
    plain = copy.deepcopy(base)
    table, core = plain.get_input_embeddings().weight, mask[_table(base)]
    model = _wrapped(base, mask, kind, which)
    unmerged = logits(model, tokens)
    changed = {}
    for layer in tuner_layers(model):
        change = layer._change(["default"], torch.float32).on(None)
        changed[type(layer).__name__] = torch.where(core, table, table + change).detach()
    plain.get_input_embeddings().weight = torch.nn.Parameter(changed.get("CoreRegionEmbedding", table))
    plain.get_output_embeddings().weight = torch.nn.Parameter(changed.get("CoreRegionLinear", table))
    assert len(changed) == (2 if which == "both" else 1)
    torch.testing.assert_close(unmerged, logits(plain, tokens), rtol=1e-4, atol=1e-4)
    model.merge_adapter()
    torch.testing.assert_close(logits(model, tokens), unmerged, rtol=1e-4, atol=1e-4)
    inner = model.get_base_model()
    for user, name in (
        (inner.get_input_embeddings(), "CoreRegionEmbedding"),
        (inner.get_output_embeddings(), "CoreRegionLinear"),
    ):
        weight = getattr(user, "base_layer", user).weight
        assert torch.equal(weight, changed.get(name, table))


@WHICH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["llama-tied", "gpt2"])
def test_core_bits_and_ties_come_back(
    kind: str,
    which: str,
    dtype: torch.dtype,
    build_model: Wrap,
    make_full_mask: Wrap,
    plant: Wrap,
    bits: Callable[..., Any],
    snapshot: Callable[..., Bits],
) -> None:
    """Merged copies keep the core's bits; unmerging gives every bit back, in one parameter that both use."""
    base = _base(build_model, kind).to(dtype)
    mask = make_full_mask(base)
    name = _table(base)
    core = mask[name]
    core.view(-1)[[3, 5, 7, 14]] = True
    mask = CoreMask({**mask, name: core})
    shared = base.get_input_embeddings().weight
    plant(shared)
    before = snapshot(base)
    model = _wrapped(base, mask, kind, which)
    users = [base.get_input_embeddings(), base.get_output_embeddings()]
    for _ in range(2):
        model.merge_adapter()
        weights = [getattr(user, "base_layer", user).weight for user in users]
        assert weights[0] is not weights[1]
        for user, weight in zip(users, weights, strict=True):
            differs = bits(weight) != before[name]
            assert not differs[core].any()
            assert bool(differs.any()) == hasattr(user, "base_layer")
            assert not weight.requires_grad
        model.unmerge_adapter()
        assert all(getattr(user, "base_layer", user).weight is shared for user in users)
        after = snapshot(model)
        assert list(after) == list(before)
        assert all(torch.equal(after[one], before[one]) for one in before)


@WHICH
def test_training_keeps_every_bit_of_the_base(
    which: str,
    build_model: Wrap,
    make_full_mask: Wrap,
    tokens: torch.Tensor,
    train: Wrap,
    snapshot: Callable[..., Bits],
) -> None:
    """Adapters of tied layers learn, and the shared table does not move."""
    base = _base(build_model, "llama-tied")
    before = snapshot(base)
    config = {"target_modules": _targets("llama-tied", which), "lora_alpha": 32}
    model = get_peft_model(base, CoreRegionConfig(core_mask=make_full_mask(base), **config))
    losses = train(model, tokens, steps=4, lr=0.05)
    assert losses[-1] < losses[0]
    after = snapshot(model)
    assert all(torch.equal(after[name], before[name]) for name in before)


@WHICH
@KINDS
def test_merged_models_are_saved_untied(
    kind: str, which: str, build_model: Wrap, make_full_mask: Wrap, tokens: torch.Tensor, logits: Wrap, tmp_path: Path
) -> None:
    """merge_and_unload says that the ties are gone; saved and loaded, the model computes the same."""
    base = _base(build_model, kind)
    model = _wrapped(base, make_full_mask(base), kind, which)
    expected = logits(model, tokens)
    with pytest.warns(UserWarning, match="embeddings are no longer tied after merging"):
        merged = model.merge_and_unload()
    torch.testing.assert_close(logits(merged, tokens), expected, rtol=1e-4, atol=1e-4)
    assert not merged.config.tie_word_embeddings
    merged.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(loaded, tokens), logits(merged, tokens))


@WHICH
def test_unloaded_models_are_tied(
    which: str, build_model: Wrap, make_full_mask: Wrap, tokens: torch.Tensor, logits: Wrap
) -> None:
    """Without merging the model comes back as it was, tied."""
    base = _base(build_model, "llama-tied")
    plain = logits(base, tokens)
    bare = _wrapped(base, make_full_mask(base), "llama-tied", which).unload()
    assert torch.equal(logits(bare, tokens), plain)
    assert bare.get_input_embeddings().weight is bare.get_output_embeddings().weight
    assert bare.config.tie_word_embeddings


@WHICH
@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_saved_adapters_are_complete(
    low_cpu_mem_usage: bool,
    which: str,
    build_model: Wrap,
    make_full_mask: Wrap,
    tokens: torch.Tensor,
    logits: Wrap,
    tmp_path: Path,
) -> None:
    """An adapter of tied layers is saved and loaded onto a tied base, which stays tied."""
    base = _base(build_model, "llama-tied")
    model = _wrapped(base, make_full_mask(base), "llama-tied", which)
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(build_model("llama-tied"), str(tmp_path), low_cpu_mem_usage=low_cpu_mem_usage)
    assert torch.equal(logits(loaded, tokens), logits(model, tokens))
    for again in (False, True):
        inner = loaded.get_base_model()
        users = [inner.get_input_embeddings(), inner.get_output_embeddings()]
        weights = [getattr(user, "base_layer", user).weight for user in users]
        assert weights[0] is weights[1], again
        loaded.merge_adapter()
        loaded.unmerge_adapter()


def test_disabling_unmerges(build_model: Wrap, make_full_mask: Wrap, tokens: torch.Tensor, logits: Wrap) -> None:
    """A merged model inside disable_adapter is its base, to the bit."""
    base = _base(build_model, "llama-tied")
    plain = logits(base, tokens)
    model = _wrapped(base, make_full_mask(base), "llama-tied", "both")
    model.merge_adapter()
    with model.disable_adapter():
        assert torch.equal(logits(model, tokens), plain)


def test_two_adapters_one_after_the_other(
    build_model: Wrap, make_full_mask: Wrap, tokens: torch.Tensor, logits: Wrap, snapshot: Callable[..., Bits]
) -> None:
    """A second adapter is merged on top of the first around both cores, and both are taken out together."""
    base = _base(build_model, "llama-tied")
    before = snapshot(base)
    masks = make_full_mask(base, "top"), make_full_mask(base, "random")
    model = _wrapped(base, masks[0], "llama-tied", "embeddings")
    model.add_adapter("b", CoreRegionConfig(core_mask=masks[1], target_modules=["embed_tokens"], init_weights=False))
    model.base_model.set_adapter(["default", "b"])
    both = logits(model, tokens)
    model.merge_adapter(["default"])
    with pytest.warns(UserWarning, match="Already following adapters were merged default"):
        model.merge_adapter(["b"])
    torch.testing.assert_close(logits(model, tokens), both, rtol=1e-4, atol=1e-4)
    union, name = masks[0] | masks[1], "model.embed_tokens.weight"
    after = snapshot(model)
    assert not (after[name] != before[name])[union[name]].any()
    assert torch.equal(after["lm_head.weight"], before[name])
    model.unmerge_adapter()
    after = snapshot(model)
    assert all(torch.equal(after[one], before[one]) for one in before)


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
@WHICH
def test_copies_of_merged_models(
    how: str, which: str, build_model: Wrap, make_full_mask: Wrap, tokens: torch.Tensor, logits: Wrap
) -> None:
    """A copy of a merged model can be unmerged, is tied then, and is independent of the first."""
    base = _base(build_model, "llama-tied")
    plain = logits(base, tokens)
    model = _wrapped(base, make_full_mask(base), "llama-tied", which)
    adapted = logits(model, tokens)
    model.merge_adapter()
    other = copy.deepcopy(model) if how == "deepcopy" else pickle.loads(pickle.dumps(model))  # noqa: S301 made here
    other.unmerge_adapter()
    inner = other.get_base_model()
    users = [inner.get_input_embeddings(), inner.get_output_embeddings()]
    weights = [getattr(user, "base_layer", user).weight for user in users]
    assert weights[0] is weights[1]
    assert weights[0] is not base.get_input_embeddings().weight
    assert torch.equal(logits(other, tokens), adapted)
    with other.disable_adapter():
        assert torch.equal(logits(other, tokens), plain)
    torch.testing.assert_close(logits(model, tokens), adapted, rtol=1e-4, atol=1e-4)


@WHICH
def test_merged_models_change_dtype_as_a_whole(
    which: str, build_model: Wrap, make_full_mask: Wrap, tokens: torch.Tensor, logits: Wrap
) -> None:
    """A merged model that is cast can still be unmerged, and is of one dtype, and tied, then."""
    base = _base(build_model, "llama-tied")
    model = _wrapped(base, make_full_mask(base), "llama-tied", which)
    model.merge_adapter()
    model.to(torch.bfloat16)
    assert logits(model, tokens).dtype == torch.bfloat16
    model.unmerge_adapter()
    assert {weight.parameter.dtype for weight in bare_weights(model).values()} == {torch.bfloat16}
    assert logits(model, tokens).dtype == torch.bfloat16
    assert "lm_head.weight" not in bare_weights(model)


@WHICH
def test_edits_of_tied_layers_with_adapters(
    which: str,
    build_model: Wrap,
    make_full_mask: Wrap,
    tokens: torch.Tensor,
    logits: Wrap,
    snapshot: Callable[..., Bits],
) -> None:
    """While an edit is open the adapters are merged, so the layers are untied; leaving it gives every bit back, tied."""
    base = _base(build_model, "llama-tied")
    before = snapshot(base)
    model = _wrapped(base, make_full_mask(base), "llama-tied", which)
    adapted = logits(model, tokens)
    with model.perturb("core"):
        assert not torch.allclose(logits(model, tokens), adapted)
    after = snapshot(model)
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(logits(model, tokens), adapted)


def test_masks_computed_when_wrapped(build_model: Wrap) -> None:
    """method= covers the tied table once, under its first name, whichever of its users is targeted."""
    for which in ("embeddings", "head", "both"):
        base = _base(build_model, "llama-tied")
        config = {"method": "magnitude", "fraction": 0.1, "target_modules": _targets("llama-tied", which)}
        model = get_peft_model(base, CoreRegionConfig(**config))
        names = [name for name in model.core_mask if "embed_tokens" in name or "lm_head" in name]
        assert names == ["model.embed_tokens.weight"]


def test_a_tied_head_that_the_mask_does_not_cover(build_model: Wrap, make_mask: Wrap) -> None:
    """The message names the table under its one name."""
    base = _base(build_model, "llama-tied")
    with pytest.raises(CoreMaskMismatchError, match=r"weight 'model\.embed_tokens\.weight'"):
        _wrapped(base, make_mask(base), "llama-tied", "head")
