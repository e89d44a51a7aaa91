"""Temporary states: whatever happens inside, every flag is as it was."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn

from hf_langcore.errors import InputError
from hf_langcore.modes import (
    adapter_layers,
    adapters_in_force,
    adapters_off,
    alterations,
    edited_masks,
    eval_mode,
    forget_alteration,
    gradients_for,
    note_alteration,
    note_training,
)

State = dict[str, Any]


def state(model: nn.Module) -> State:
    """Every flag that a context might touch; gradients by identity."""
    found: State = {name: module.training for name, module in model.named_modules()}
    for name, parameter in model.named_parameters():
        found[f"{name}?"] = (parameter.requires_grad, id(parameter.grad) if parameter.grad is not None else None)
    for index, layer in enumerate(adapter_layers(model)):
        found[f"adapter {index}"] = (layer.disable_adapters, layer.active_adapters)
    return found


def wrap(llama: Any) -> Any:
    config = LoraConfig(target_modules=["q_proj", "v_proj"], modules_to_save=["lm_head"], init_lora_weights=False)
    model = get_peft_model(llama, config)
    model.add_adapter("second", config)
    return model


@pytest.fixture
def adapted(llama: Any) -> Any:
    """A LoRA model with two adapters, mixed flags and a gradient."""
    model = wrap(llama)
    model.train()
    model.base_model.model.model.layers[0].eval()
    first = next(parameter for parameter in model.parameters() if parameter.requires_grad)
    first.grad = torch.ones_like(first)
    next(model.parameters()).requires_grad_(True)
    return model


CONTEXTS: dict[str, Callable[[Any], AbstractContextManager[None]]] = {
    "eval_mode": eval_mode,
    "gradients_for none": lambda model: gradients_for(model, []),
    "gradients_for all": lambda model: gradients_for(model, model.parameters()),
    "adapters_off": adapters_off,
}


@pytest.mark.parametrize("context", list(CONTEXTS))
@pytest.mark.parametrize("fails", [False, True])
def test_every_flag_comes_back(adapted: Any, context: str, fails: bool) -> None:
    """Training modes, requires_grad, gradients and adapters, also when the body raises; the state did change."""
    before = state(adapted)
    with contextlib.suppress(KeyboardInterrupt), CONTEXTS[context](adapted):
        assert state(adapted) != before
        if fails:
            raise KeyboardInterrupt
    assert state(adapted) == before


@pytest.mark.parametrize("inner", list(CONTEXTS))
@pytest.mark.parametrize("outer", list(CONTEXTS))
def test_contexts_nest(adapted: Any, outer: str, inner: str) -> None:
    """In any order, each inside itself too."""
    before = state(adapted)
    with CONTEXTS[outer](adapted):
        between = state(adapted)
        with CONTEXTS[inner](adapted):
            pass
        assert state(adapted) == between
    assert state(adapted) == before


@given(st.lists(st.booleans(), min_size=5, max_size=5))
def test_eval_mode_restores_each_module(flags: list[bool]) -> None:
    """Every pattern of training flags: `model.train()` would make them all equal."""
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Linear(1, 1)))
    modules = list(model.modules())
    for module, flag in zip(modules, flags, strict=True):
        module.training = flag
    with eval_mode(model):
        assert not any(module.training for module in modules)
    assert [module.training for module in modules] == flags


def test_gradients_go_where_they_are_wanted(llama: Any) -> None:
    """Only the named parameters get some, and old gradients are neither added to nor lost."""
    wanted, other = llama.model.layers[0].mlp.up_proj.weight, llama.lm_head.weight
    wanted.grad = torch.full_like(wanted, 7.0)
    wanted.requires_grad_(False)
    old = wanted.grad
    with gradients_for(llama, [wanted]):
        assert wanted.grad is None
        llama(input_ids=torch.tensor([[1, 5, 9]])).logits.sum().backward()
        assert wanted.grad is not None
        assert other.grad is None
    assert wanted.grad is old
    assert bool((old == 7.0).all())
    assert not wanted.requires_grad
    assert other.requires_grad


def test_a_failed_entry_is_undone(llama: Any) -> None:
    """A quantised parameter cannot require gradients: the error comes, and the flags that were set go back."""
    codes = nn.Parameter(torch.zeros(48, 32, dtype=torch.int8), requires_grad=False)
    llama.model.layers[1].mlp.up_proj.weight = codes
    before = state(llama)
    with pytest.raises(RuntimeError, match="floating point"), gradients_for(llama, [codes]):
        pass
    assert state(llama) == before


def test_without_adapters_the_model_is_its_base(llama: Any) -> None:
    """Bit for bit, the saved module included; afterwards the adapter works again."""
    ids = torch.tensor([[1, 5, 9, 4]])
    with torch.no_grad():
        base = llama(input_ids=ids).logits
        adapted = wrap(llama).eval()
        nn.init.normal_(adapted.base_model.model.lm_head.modules_to_save["default"].weight)
        with_adapter = adapted(input_ids=ids).logits
        with adapters_off(adapted):
            without = adapted(input_ids=ids).logits
        again = adapted(input_ids=ids).logits
    assert torch.equal(without, base)
    assert torch.equal(with_adapter, again)
    assert not torch.allclose(with_adapter, without)


def test_adapters_that_were_off_stay_off(adapted: Any) -> None:
    """Only what was on is switched on again."""
    for layer in adapter_layers(adapted)[::2]:
        layer.enable_adapters(False)
    before = state(adapted)
    with adapters_off(adapted):
        assert all(layer.disable_adapters for layer in adapter_layers(adapted))
    assert state(adapted) == before


def test_the_active_adapter_stays_active(adapted: Any) -> None:
    """The second of two."""
    adapted.set_adapter("second")
    before = state(adapted)
    with adapters_off(adapted):
        pass
    assert state(adapted) == before


def test_merged_adapters_are_refused(adapted: Any) -> None:
    """The base weights are not there to be seen; nothing was touched."""
    adapted.merge_adapter()
    before = state(adapted)
    with pytest.raises(InputError, match="unmerge_adapter"), adapters_off(adapted):
        pass
    assert state(adapted) == before


def test_models_without_adapters_are_left_alone(llama: Any) -> None:
    """Nothing to switch off is no error."""
    before = state(llama)
    assert adapter_layers(llama) == []
    with adapters_off(llama):
        assert state(llama) == before
    assert state(llama) == before


def test_alterations(llama: Any) -> None:
    """Notes are kept in order, taken back from the end, seen through wrappers, and leave no trace."""
    before = set(vars(llama)), llama.config.to_json_string()
    for what in ("a", "b", "a"):
        note_alteration(torch.nn.DataParallel(llama), what)
    assert alterations(llama) == alterations(nn.Sequential(llama)) == ["a", "b", "a"]
    forget_alteration(llama, "a")
    assert alterations(llama) == ["a", "b"]
    forget_alteration(llama, "unknown")
    assert alterations(llama) == ["a", "b"]
    forget_alteration(llama, "b")
    forget_alteration(llama, "a")
    assert alterations(llama) == []
    assert (set(vars(llama)), llama.config.to_json_string()) == before
    forget_alteration(llama, "a")


def test_edits_are_saved_and_loaded(llama: Any, tmp_path: Path) -> None:
    """With the weights; a model that was restored has the config of one that was never edited."""
    llama.save_pretrained(tmp_path / "before")
    note_alteration(llama, "a", core_mask="b" * 64)
    note_alteration(nn.DataParallel(llama), "c")
    llama.save_pretrained(tmp_path / "edited")
    forget_alteration(llama, "c")
    forget_alteration(llama, "a")
    loaded = type(llama).from_pretrained(tmp_path / "edited")
    note_alteration(loaded, "d", core_mask="e" * 64)
    for model in (loaded, copy.deepcopy(loaded), wrap(copy.deepcopy(loaded)), nn.Sequential(loaded)):
        assert alterations(model) == ["a", "c", "d"]
        assert edited_masks(model) == ["b" * 64, "e" * 64]
    forget_alteration(loaded, "d")
    assert alterations(loaded) == ["a", "c"]
    assert (alterations(llama), edited_masks(llama)) == ([], [])
    adapted = wrap(llama)
    note_alteration(adapted, "f")
    assert alterations(adapted) == [one["edit"] for one in llama.config.core_region_edits] == ["f"]
    forget_alteration(adapted, "f")
    adapted.unload().save_pretrained(tmp_path / "after")
    files = [(tmp_path / name / "config.json").read_bytes() for name in ("before", "after", "edited")]
    assert files[0] == files[1] != files[2]


def test_alterations_without_a_config() -> None:
    """Any module can be noted."""
    model = nn.Linear(1, 1)
    note_alteration(model, "a")
    assert alterations(model) == alterations(copy.deepcopy(model)) == ["a"]
    forget_alteration(model, "a")
    assert alterations(model) == []


@pytest.mark.parametrize(
    ("noted", "words"),
    [("x", ["x"]), ([1, {"a": 2}], ["1", "edited"]), ({"edit": "y", "core_mask": 3}, ["y"]), ([], [])],
)
def test_odd_notes_in_a_config(llama: Any, noted: Any, words: list[str]) -> None:
    """A config may come from anybody; what it says still counts as an edit."""
    llama.config.core_region_edits = noted
    assert (alterations(llama), edited_masks(llama)) == (words, [])
    note_alteration(llama, "z")
    forget_alteration(llama, "z")
    assert alterations(llama) == words


def test_adapters_in_force(llama: Any) -> None:
    """The active ones; after merging those that were merged, also where adapters are switched off."""
    model = wrap(llama)
    assert adapters_in_force(model) == ["default (LORA)"]
    model.set_adapter("second")
    assert adapters_in_force(model) == ["second (LORA)"]
    model.merge_adapter(["default"])
    assert set(adapters_in_force(model)) == {"default (LORA)", "second (LORA)"}
    model.unmerge_adapter()
    with model.disable_adapter():
        assert adapters_in_force(model) == []
    assert adapters_in_force(model.unload()) == []


def test_training_in_place(llama: Any) -> None:
    """A model whose own weights were trained is another one for good, also when it is wrapped or copied."""
    assert adapters_in_force(llama) == []
    note_training(nn.DataParallel(llama))
    assert (
        adapters_in_force(llama)
        == adapters_in_force(nn.Sequential(copy.deepcopy(llama)))
        == ["weights trained in place"]
    )
    assert alterations(llama) == []
    assert adapters_in_force(wrap(llama)) == ["default (LORA)", "weights trained in place"]
