"""What protects a run: chosen by words, checked before rows are tokenised, and the damage to recover from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import BitsAndBytesConfig, PreTrainedTokenizerFast

from hf_langcore.architecture import decoder_weights
from hf_langcore.editing import restore_all
from hf_langcore.errors import ConfigurationError, CoreMaskMismatchError, InputError, UnsupportedModelError
from hf_langcore.masks import ImportanceScores, Provenance
from hf_langcore.training import AnchorCallback, CoreFreezeCallback, CoreRegionSFTTrainer

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated:FutureWarning")


@pytest.fixture
def sft(
    sft_args: Callable[..., Any], tokenizer: PreTrainedTokenizerFast, task: Dataset, tiny: SimpleNamespace
) -> Callable[..., CoreRegionSFTTrainer]:
    def make(*, args: dict[str, Any] | None = None, **options: Any) -> CoreRegionSFTTrainer:
        options = {"model": tiny.llama(), "train_dataset": task, "processing_class": tokenizer, **options}
        return CoreRegionSFTTrainer(args=sft_args(**(args or {})), **options)

    return make


def kinds(trainer: CoreRegionSFTTrainer) -> list[type]:
    ours = (AnchorCallback, CoreFreezeCallback)
    return [type(one) for one in trainer.callback_handler.callbacks if isinstance(one, ours)]


@pytest.mark.parametrize(
    ("protection", "has_mask", "expected"),
    [
        ("freeze", True, [CoreFreezeCallback]),
        ("anchor", True, [AnchorCallback, CoreFreezeCallback]),
        ("anchor", False, [AnchorCallback]),
        ("none", True, []),
    ],
)
def test_words_choose_callbacks_and_the_freeze_comes_last(
    sft: Callable[..., CoreRegionSFTTrainer],
    tiny: SimpleNamespace,
    protection: str,
    has_mask: bool,
    expected: list[type],
) -> None:
    model = tiny.llama()
    core = tiny.core_of(model)
    before = tiny.bits_of(model)
    trainer = sft(model=model, core_mask=core if has_mask else None, args={"protection": protection})
    assert kinds(trainer) == expected
    trainer.train()
    changed, complement = tiny.changed_bits(before, model, core)
    assert (changed == 0) == (CoreFreezeCallback in expected)
    assert complement > 0


def test_the_anchor_of_the_configuration_pulls(
    sft: Callable[..., CoreRegionSFTTrainer], tiny: SimpleNamespace
) -> None:
    moved = []
    for args in ({}, {"protection": "anchor", "anchor_strength": 0.5}):
        model = tiny.llama()
        base = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        sft(model=model, args=args).train()
        moved.append(sum(float((p.detach() - base[name]).abs().sum()) for name, p in model.named_parameters()))
    assert moved[1] < 0.8 * moved[0]


def test_importance_of_the_configuration_is_a_folder_that_the_argument_overrides(
    sft: Callable[..., CoreRegionSFTTrainer], tiny: SimpleNamespace, tmp_path: Path
) -> None:
    weights = decoder_weights(tiny.llama())
    scores = ImportanceScores(
        {name: torch.rand_like(weight.parameter) for name, weight in weights.items()},
        provenance=Provenance(method="fisher"),
    )
    scores.save_pretrained(tmp_path / "scores")
    results = []
    for options in (
        {"args": {"protection": "anchor", "anchor_strength": 0.3, "anchor_importance": str(tmp_path / "scores")}},
        {"args": {"protection": "anchor", "anchor_strength": 0.3}, "anchor_importance": scores},
        {"args": {"protection": "anchor", "anchor_strength": 0.3}},
    ):
        model = tiny.llama()
        sft(model=model, **options).train()
        results.append(tiny.bits_of(model))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert any(not torch.equal(results[0][name], results[2][name]) for name in results[0])


@pytest.mark.parametrize("protection", ["freeze", "none"])
def test_recovery_starts_from_a_damaged_core(
    sft: Callable[..., CoreRegionSFTTrainer], tiny: SimpleNamespace, protection: str
) -> None:
    model = tiny.llama()
    core = tiny.core_of(model, fraction=0.1)
    base = tiny.bits_of(model)
    trainer = sft(model=model, core_mask=core, args={"core_damage": "zero", "protection": protection})
    damaged = tiny.bits_of(model)
    assert all(not damaged[name][core[name]].any() for name in core)
    assert tiny.changed_bits(base, model, core)[1] == 0
    assert restore_all(model) == 0  # the damage is no open edit
    trainer.train()
    recovered, complement = tiny.changed_bits(damaged, model, core)
    assert (recovered == 0) == (protection == "freeze")
    assert complement > 0


def test_damage_is_seeded(sft: Callable[..., CoreRegionSFTTrainer], tiny: SimpleNamespace) -> None:
    def damaged(seed: int) -> dict[str, torch.Tensor]:
        model = tiny.llama()
        sft(model=model, core_mask=tiny.core_of(model), args={"core_damage": "reinit", "seed": seed})
        return tiny.bits_of(model)

    first, same, other = damaged(1), damaged(1), damaged(2)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_damaged_weights_are_compared_before_the_damage(
    sft: Callable[..., CoreRegionSFTTrainer], tiny: SimpleNamespace
) -> None:
    core = tiny.core_of(tiny.llama())
    other = tiny.llama()
    for parameter in other.parameters():
        parameter.data += 1
    before = tiny.bits_of(other)
    with pytest.raises(CoreMaskMismatchError, match="other weights"):
        sft(model=other, core_mask=core, args={"core_damage": "zero"})
    assert tiny.changed_bits(before, other, core) == (0, 0)


def test_a_resumed_recovery_is_not_damaged_again(
    sft: Callable[..., CoreRegionSFTTrainer], tiny: SimpleNamespace, tmp_path: Path
) -> None:
    args = {"core_damage": "zero", "protection": "none", "save_strategy": "steps", "save_steps": 2}
    model = tiny.llama()
    core = tiny.core_of(model)
    sft(model=model, core_mask=core, args={**args, "max_steps": 2}).train()
    at_two = tiny.bits_of(model)
    again = tiny.llama()
    trainer = sft(model=again, core_mask=core, args={**args, "max_steps": 2})
    trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    assert tiny.changed_bits(at_two, again, core) == (0, 0)


def test_gradients_may_be_masked_from_the_configuration(
    sft: Callable[..., CoreRegionSFTTrainer], tiny: SimpleNamespace
) -> None:
    model = tiny.llama()
    core = tiny.core_of(model, fraction=0.2)
    seen: list[int] = []
    trainer = sft(model=model, core_mask=core, args={"mask_gradients": True})
    clip = trainer.accelerator.clip_grad_norm_

    def look(parameters: Any, *rest: Any) -> Any:
        gradients = dict(model.named_parameters())
        seen.extend(int(gradients[name].grad[core[name]].count_nonzero()) for name in core)
        return clip(parameters, *rest)

    trainer.accelerator.clip_grad_norm_ = look
    trainer.train()
    assert seen
    assert not any(seen)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"args": {"core_damage": "zero"}}, ConfigurationError, "needs a core_mask"),
        ({"anchor_base": "somewhere"}, ConfigurationError, 'belong to protection="anchor"'),
        ({"args": {"anchor_base": "somewhere"}}, ConfigurationError, 'belong to protection="anchor"'),
        (
            {"args": {"core_damage": "zero", "protection": "anchor"}, "core_mask": "given"},
            ConfigurationError,
            "exclude each other",
        ),
        (
            {"args": {"model_init_kwargs": {"quantization_config": {}}}, "core_mask": "given"},
            UnsupportedModelError,
            "full-precision",
        ),
        (
            {"args": {"protection": "anchor"}, "quantization_config": BitsAndBytesConfig(load_in_8bit=True)},
            UnsupportedModelError,
            "full-precision",
        ),
    ],
)
def test_contradictions_are_named(
    sft: Callable[..., CoreRegionSFTTrainer], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        sft(**options)


def test_an_anchor_has_no_place_beside_an_adapter(sft: Callable[..., CoreRegionSFTTrainer]) -> None:
    from peft import LoraConfig

    with pytest.raises(ConfigurationError, match="pulls base weights back"):
        sft(args={"protection": "anchor"}, peft_config=LoraConfig(task_type="CAUSAL_LM"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"protection": "both"}, "protection must be one of"),
        ({"core_damage": "burn"}, "core_damage must be one of"),
        ({"anchor_strength": 2.0}, "from 0 to 1"),
    ],
)
def test_the_configuration_refuses_what_means_nothing(
    sft_args: Callable[..., Any], args: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        sft_args(**args)


@pytest.mark.parametrize(("protection", "has_mask"), [("freeze", False), ("none", True)])
def test_an_unprotected_run_says_so(
    sft: Callable[..., CoreRegionSFTTrainer],
    tiny: SimpleNamespace,
    caplog: pytest.LogCaptureFixture,
    protection: str,
    has_mask: bool,
) -> None:
    model = tiny.llama()
    with caplog.at_level(logging.WARNING, logger="hf_langcore"):
        sft(model=model, core_mask=tiny.core_of(model) if has_mask else None, args={"protection": protection})
    assert "nothing protects the core in this run" in caplog.text
