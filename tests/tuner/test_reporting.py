from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from hf_langcore.masks import CoreMask
from hf_langcore.tuner import CoreRegionConfig
from hf_langcore.tuner.registration import register
from hf_langcore.tuner.reporting import protected_line, say_how_many_are_protected

Wrap = Callable[..., Any]


def _lines(model: Any, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    model.print_trainable_parameters()
    return capsys.readouterr().out.splitlines()


def test_a_second_line_counts_the_core(llama: Any, make_mask: Wrap, capsys: pytest.CaptureFixture[str]) -> None:
    """PEFT's line stays as it is; below it stand core and size of the layers that the adapter changes."""
    mask = make_mask(llama)
    model = get_peft_model(llama, CoreRegionConfig(core_mask=mask, r=2, target_modules=["up_proj"]))
    core = sum(mask.count(name) for name in mask if "up_proj" in name)
    size = 2 * 40 * 24
    first, second = _lines(model, capsys)
    assert first.startswith(f"trainable params: {2 * 2 * (24 + 40)} || all params: ")
    assert 0 < core < size
    assert second == (
        f"protected params: {core:,d} || adapted layers' params: {size:,d} || protected%: {100 * core / size:.4f}"
    )


def test_large_numbers_have_commas(capsys: pytest.CaptureFixture[str]) -> None:
    """As in PEFT's own line."""
    core = torch.zeros(100, 100, dtype=torch.bool)
    core[:30] = True
    config = CoreRegionConfig(core_mask=CoreMask({"0.weight": core}), target_modules=["0"])
    model = get_peft_model(nn.Sequential(nn.Linear(100, 100)), config)
    assert _lines(model, capsys)[1] == (
        "protected params: 3,000 || adapted layers' params: 10,000 || protected%: 30.0000"
    )


def test_several_adapters_protect_their_union(llama: Any, make_mask: Wrap) -> None:
    """What counts are the active adapters: one alone, both together, or none."""
    top, random = make_mask(llama, "top"), make_mask(llama, "random")
    model = get_peft_model(llama, CoreRegionConfig(core_mask=top, target_modules=["up_proj"]), adapter_name="a")
    model.add_adapter("b", CoreRegionConfig(core_mask=random, target_modules=["up_proj", "q_proj"]))
    tuner = model.base_model

    def counted() -> tuple[int, int]:
        words = protected_line(tuner).replace(",", "").split()
        return int(words[2]), int(words[7])

    names = [name for name in top if "up_proj" in name]
    others = [name for name in top if "q_proj" in name]
    assert counted() == (sum(top.count(name) for name in names), 2 * 40 * 24)
    tuner.set_adapter(["a", "b"])
    union = top | random
    both = sum(union.count(name) for name in [*names, *others])  # "a" protects q_proj, too, without changing it
    assert counted() == (both, 2 * 40 * 24 + 2 * 24 * 24)
    tuner.set_adapter([])
    assert protected_line(tuner) == "protected params: 0 || adapted layers' params: 0 || protected%: 0.0000"


def test_embeddings_and_parameters_count(
    build_model: Wrap, make_full_mask: Wrap, capsys: pytest.CaptureFixture[str]
) -> None:
    """Layers of every kind are counted, stacks of experts with all their matrices."""
    base = build_model("mixtral")
    mask = make_full_mask(base)
    options = {"target_modules": ["embed_tokens"], "target_parameters": ["0.mlp.experts.down_proj"]}
    model = get_peft_model(base, CoreRegionConfig(core_mask=mask, **options))
    names = ["model.embed_tokens.weight", "model.layers.0.mlp.experts.down_proj"]
    core = sum(mask.count(name) for name in names)
    size = 61 * 24 + 4 * 24 * 40
    assert f"protected params: {core:,d} || adapted layers' params: {size:,d} ||" in _lines(model, capsys)[1]


def test_other_methods_print_as_ever(llama: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A LoRA has no second line."""
    (line,) = _lines(get_peft_model(llama, LoraConfig(target_modules=["up_proj"])), capsys)
    assert line.startswith("trainable params: ")


def test_registering_again_adds_no_third_line(llama: Any, make_mask: Wrap, capsys: pytest.CaptureFixture[str]) -> None:
    """The method is extended once a process, and keeps its name and documentation."""
    before = PeftModel.print_trainable_parameters
    register()
    say_how_many_are_protected()
    assert PeftModel.print_trainable_parameters is before
    assert before.__name__ == "print_trainable_parameters"
    assert before.__doc__
    assert len(_lines(get_peft_model(llama, CoreRegionConfig(core_mask=make_mask(llama))), capsys)) == 2
