"""Adapters that act together keep off all their cores, also where only some of them have a layer."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model

from hf_langcore.architecture import bare_weights
from hf_langcore.masks import CoreMask
from hf_langcore.tuner import CoreRegionConfig
from hf_langcore.tuner.layer import tuner_layers

Wrap = Callable[..., Any]
Bits = dict[str, torch.Tensor]

TARGETS = {"a": ["q_proj", "embed_tokens", "up_proj"], "b": ["v_proj", "up_proj"], "z": ["q_proj", "down_proj"]}
RANKS = {"a": 4, "b": 0, "z": 2}


def _masks(base: Any, full_mask: Wrap) -> dict[str, CoreMask]:
    return {name: full_mask(base, "random", fraction=0.3, seed=seed) for seed, name in enumerate(TARGETS)}


def _config(name: str, mask: CoreMask) -> CoreRegionConfig:
    return CoreRegionConfig(core_mask=mask, r=RANKS[name], target_modules=TARGETS[name], init_weights=False)


@pytest.fixture
def masks(llama: Any, make_full_mask: Wrap) -> dict[str, CoreMask]:
    return _masks(llama, make_full_mask)


@pytest.fixture
def model(llama: Any, masks: dict[str, CoreMask]) -> Any:
    """Three adapters, each with its own layers and core; the first one is active."""
    wrapped = get_peft_model(llama, _config("a", masks["a"]), adapter_name="a")
    for name in ("b", "z"):
        wrapped.add_adapter(name, _config(name, masks[name]))
    return wrapped.eval()


def _united(masks: dict[str, CoreMask], names: list[str], weight: str) -> torch.Tensor:
    return torch.stack([masks[name][weight] for name in names]).any(0)


def _effective(model: Any, masks: dict[str, CoreMask], names: list[str]) -> dict[str, torch.Tensor]:
    """The weights of the bare model as these adapters together should make them, spelled out."""
    weights = {name: weight.parameter.detach().clone() for name, weight in bare_weights(model).items()}
    known = {id(weight.parameter): name for name, weight in bare_weights(model).items()}
    for layer in tuner_layers(model):
        key, here = known[id(layer.adapted)], [name for name in names if name in layer.core_region_mask]
        change = sum((layer._change([name], torch.float32).on(None).detach() for name in here), start=torch.zeros(()))
        core = _united(masks, names, key)
        weights[key] = torch.where(core, weights[key], weights[key] + change)
    return weights


TOGETHER = [["a"], ["b"], ["a", "b"], ["z", "a"], ["a", "b", "z"]]


@pytest.mark.parametrize("names", TOGETHER, ids="".join)
def test_they_compute_around_all_cores(
    names: list[str], model: Any, masks: dict[str, CoreMask], build_model: Wrap, tokens: torch.Tensor, logits: Wrap
) -> None:
    """Outputs, merged weights and gradients are those of the weights that all of them together leave."""
    model.base_model.set_adapter(names)
    expected = _effective(model, masks, names)
    plain = build_model("llama")
    reference = torch.func.functional_call(plain, expected, (tokens,)).logits
    torch.testing.assert_close(logits(model, tokens), reference, rtol=1e-4, atol=1e-5)
    model.merge_adapter()
    for name, weight in bare_weights(model).items():
        torch.testing.assert_close(weight.parameter, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Already following adapters were merged")
def test_merging_in_any_order_is_the_same(
    model: Any, masks: dict[str, CoreMask], snapshot: Callable[..., Bits]
) -> None:
    """One after the other, in whatever order, gives all at once, with every bit of all cores; unmerging gives the base."""
    before = snapshot(model)
    expected = _effective(model, masks, ["a", "b", "z"])
    for order in itertools.permutations("abz"):
        for name in order:
            model.merge_adapter([name])
        after = snapshot(model)
        for name, weight in bare_weights(model).items():
            torch.testing.assert_close(weight.parameter, expected[name], rtol=1e-5, atol=1e-6)
            core = _united(masks, ["a", "b", "z"], name)
            assert torch.equal(after[name][core], before[name][core])
        model.unmerge_adapter()
        after = snapshot(model)
        assert all(torch.equal(after[key], before[key]) for key in before)


@pytest.mark.filterwarnings("ignore:Already unmerged")  # PEFT asks the layers of other adapters, too
@pytest.mark.parametrize("take_out", ["unmerge", "disable"])
def test_an_unmerged_adapter_protects_nothing_any_more(
    take_out: str, model: Any, tokens: torch.Tensor, logits: Wrap, snapshot: Callable[..., Bits]
) -> None:
    """What was merged before and is not now leaves no trace in a later merge, however it was taken out."""
    model.merge_adapter(["b"])
    alone = snapshot(model)
    model.unmerge_adapter()
    model.merge_adapter(["a"])
    if take_out == "unmerge":
        model.unmerge_adapter()
    else:
        with model.disable_adapter():
            logits(model, tokens)
    model.merge_adapter(["b"])
    after = snapshot(model)
    assert {key for key in alone if not torch.equal(after[key], alone[key])} == set()


@pytest.mark.filterwarnings("ignore:A.* adapters (are already|were) merged", "ignore:Already unmerged")
def test_a_failed_merge_leaves_no_trace(model: Any, snapshot: Callable[..., Bits]) -> None:
    """After a merge that found a broken adapter, merging the repaired one gives what it always gives."""
    model.base_model.set_adapter(["a", "b"])
    model.merge_adapter()
    expected = snapshot(model)
    model.unmerge_adapter()
    broken = next(layer for layer in tuner_layers(model) if "b" in layer.core_region_delta)
    numbers = broken.core_region_delta["b"].data
    kept = numbers.clone()
    numbers.fill_(float("nan"))
    for _ in range(2):
        with pytest.raises(ValueError, match="NaNs detected"):
            model.merge_adapter(safe_merge=True)
    numbers.copy_(kept)
    model.merge_adapter(safe_merge=True)
    after = snapshot(model)
    assert {key for key in expected if not torch.equal(after[key], expected[key])} == set()


def test_inactive_ones_protect_nothing(
    model: Any, tokens: torch.Tensor, logits: Wrap, masks: dict[str, CoreMask]
) -> None:
    """Switching to both and back gives what each alone computed before."""
    alone = logits(model, tokens)
    model.base_model.set_adapter(["a", "b"])
    assert not torch.allclose(logits(model, tokens), alone)
    model.set_adapter("a")
    assert torch.equal(logits(model, tokens), alone)
    model.delete_adapter("b")
    assert torch.equal(logits(model, tokens), alone)


@pytest.mark.filterwarnings("ignore:Already unmerged")  # PEFT asks the layers of other adapters, too
def test_a_deleted_name_used_again(
    model: Any, llama: Any, masks: dict[str, CoreMask], make_full_mask: Wrap, tokens: torch.Tensor, logits: Wrap
) -> None:
    """A new adapter of an old name protects what its own mask says, not the old one's."""
    model.base_model.set_adapter(["a", "b"])
    model.delete_adapter("b")
    other = make_full_mask(llama, "random", fraction=0.5, seed=9)
    model.add_adapter("b", _config("b", other))
    model.base_model.set_adapter(["a", "b"])
    output = logits(model, tokens)
    assert model.core_mask == masks["a"] | other
    model.merge_adapter()
    torch.testing.assert_close(logits(model, tokens), output, rtol=1e-4, atol=1e-4)
    model.unmerge_adapter()
    changed = _effective(model, {**masks, "b": other}, ["a", "b"])
    model.merge_adapter()
    for name, weight in bare_weights(model).items():
        torch.testing.assert_close(weight.parameter, changed[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")
def test_loaded_ones_do_the_same(
    low_cpu_mem_usage: bool, model: Any, build_model: Wrap, tokens: torch.Tensor, logits: Wrap, tmp_path: Path
) -> None:
    """Saved, loaded, copied and pickled models keep off the same cores."""
    model.base_model.set_adapter(["a", "b", "z"])
    expected = logits(model, tokens)
    model.save_pretrained(str(tmp_path))
    options = {"low_cpu_mem_usage": low_cpu_mem_usage}
    loaded = PeftModel.from_pretrained(build_model("llama"), str(tmp_path / "a"), adapter_name="a", **options)
    for name in ("b", "z"):
        loaded.load_adapter(str(tmp_path / name), name, **options)
    loaded.base_model.set_adapter(["a", "b", "z"])
    copies = [loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))]  # noqa: S301 made on this line
    assert all(torch.equal(logits(other, tokens), expected) for other in copies)


@pytest.mark.filterwarnings("ignore:.*multiple adapters")
def test_adapters_of_a_plain_model(
    model: Any, masks: dict[str, CoreMask], build_model: Wrap, tokens: torch.Tensor, logits: Wrap
) -> None:
    """The methods of transformers give the same union, in whatever order the adapters came."""
    model.base_model.set_adapter(["a", "b", "z"])
    expected = logits(model, tokens)
    for order in ("abz", "zba"):
        plain = build_model("llama")
        for name in order:
            plain.add_adapter(_config(name, masks[name]), name)
        for ours, theirs in zip(tuner_layers(plain), tuner_layers(model), strict=True):
            for name in ours.core_region_mask:
                for parameters in ("core_region_A", "core_region_B", "core_region_delta"):
                    if name in getattr(ours, parameters):
                        getattr(ours, parameters)[name].data = getattr(theirs, parameters)[name].data.clone()
        plain.set_adapter(["a", "b", "z"])
        torch.testing.assert_close(logits(plain, tokens), expected, rtol=1e-4, atol=1e-5)


def test_rows_of_a_mixed_batch_do_not_protect_each_other(model: Any, tokens: torch.Tensor, logits: Wrap) -> None:
    """In a mixed batch adapters act side by side, not together."""
    model.set_adapter("b")
    alone = logits(model, tokens)
    mixed = logits(model, tokens, adapter_names=["b", "a"])
    torch.testing.assert_close(mixed[0], alone[0], rtol=1e-4, atol=1e-5)


def test_protected_weights_are_counted(model: Any, masks: dict[str, CoreMask]) -> None:
    """All cores count in all layers that one of the active adapters changes."""
    model.base_model.set_adapter(["a", "b"])
    touched = [name for name in masks["a"] if any(f"{end}." in name for end in {*TARGETS["a"], *TARGETS["b"]})]
    assert len(touched) == 7
    expected = sum(int(_united(masks, ["a", "b"], name).sum()) for name in touched)
    assert model.get_nb_protected() == expected
