"""Out of memory: smaller micro-batches, the same effective batch, and only from a state that is known."""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import Trainer, set_seed

from hf_langcore.errors import ConfigurationError, InputError, LangCoreError
from hf_langcore.training import CoreRegionSFTTrainer
from hf_langcore.training.memory import (
    MemorySavingMixin,
    TrainingMemoryError,
    check_on_out_of_memory,
    is_out_of_memory,
    smaller_batch,
)

CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB."


class Crowded:
    """Has room for so many rows, from one step on; remembers what it was given."""

    room = 2
    first_step = 0
    error: Exception = torch.OutOfMemoryError(CUDA)
    seen: list[tuple[int, int]]

    def compute_loss(self, model: Any, inputs: Any, *rest: Any, **options: Any) -> Any:
        rows = len(inputs["input_ids"])
        self.seen = [*getattr(self, "seen", []), (self.state.global_step, rows)]  # type: ignore[attr-defined]
        loss = super().compute_loss(model, inputs, *rest, **options)  # type: ignore[misc]
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002 dropout and collators draw before memory is full
        if rows > self.room and self.state.global_step >= self.first_step:  # type: ignore[attr-defined]
            raise self.error
        return loss


class PlainTrainer(Crowded, MemorySavingMixin, Trainer): ...


class SFTTrainer(Crowded, CoreRegionSFTTrainer): ...


@pytest.fixture
def make(tiny: SimpleNamespace, plain_args: Callable[..., Any], token_rows: Dataset) -> Callable[..., PlainTrainer]:
    """A trainer with dropout, a schedule and 16 rows."""

    def build(model: Any = None, **args: Any) -> PlainTrainer:
        model = model or tiny.llama()
        with_dropout(model, 0.1)
        options = {"max_steps": 4, "lr_scheduler_type": "linear", "per_device_train_batch_size": 8, **args}
        return PlainTrainer(model=model, args=plain_args(**options), train_dataset=token_rows)

    return build


def with_dropout(model: Any, share: float) -> None:
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = share


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_sizes() -> None:
    """The largest part that divides, so that nothing of the effective batch is lost."""
    assert {size: smaller_batch(size) for size in (1, 2, 3, 6, 9, 12, 35, 7)} == {
        1: None, 2: 1, 3: 1, 6: 3, 9: 3, 12: 6, 35: 7, 7: 1,
    }  # fmt: skip


def test_what_is_out_of_memory() -> None:
    """Devices, the host, and nothing else."""
    assert is_out_of_memory(torch.OutOfMemoryError("whatever"))
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    check_on_out_of_memory("halve")
    with pytest.raises(InputError, match="on_out_of_memory must be one of"):
        check_on_out_of_memory("shrink")


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError(CUDA), RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()]
)
def test_equal_to_a_run_with_small_batches(
    make: Callable[..., PlainTrainer], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Twice too large, then as if it had begun with 2 rows at a time: every bit, dropout included."""
    expected = make(per_device_train_batch_size=2, gradient_accumulation_steps=4)
    set_seed(5)
    loss = expected.train().training_loss
    draws = random.random(), np.random.rand()  # noqa: NPY002
    trainer = make()
    trainer.error = error
    set_seed(5)
    with caplog.at_level(logging.WARNING):
        result = trainer.train()
    assert (random.random(), np.random.rand()) == draws  # noqa: NPY002
    assert same(weights(trainer), weights(expected))
    assert (result.training_loss, result.global_step) == (loss, 4)
    assert trainer.seen[:2] == [(0, 8), (0, 4)]
    assert {rows for _, rows in trainer.seen[2:]} == {2}
    assert (trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps) == (2, 4)
    messages = [record.getMessage() for record in caplog.records if "Out of memory" in record.getMessage()]
    assert len(messages) == 2
    assert "with 4 rows at a time and 2 micro-batches per step; the effective batch stays 8 rows" in messages[0]
    assert "from the start" in messages[0]


def test_close_to_the_run_that_was_asked_for(make: Callable[..., PlainTrainer]) -> None:
    """The effective batch is what it was: without dropout the weights differ by rounding only. 6 rows become 3, then 1."""
    roomy, crowded = (make(per_device_train_batch_size=6, num_train_epochs=1, max_steps=-1) for _ in range(2))
    for trainer in (roomy, crowded):
        with_dropout(trainer.model, 0.0)
    roomy.room = 6
    roomy.train()
    crowded.train()
    assert (crowded.args.per_device_train_batch_size, crowded.args.gradient_accumulation_steps) == (1, 6)
    assert roomy.state.global_step == crowded.state.global_step == 3  # 16 rows: 6, 6 and 4
    for name, value in weights(crowded).items():
        torch.testing.assert_close(value, weights(roomy)[name], rtol=1e-3, atol=1e-4)


def test_from_the_last_checkpoint(make: Callable[..., PlainTrainer], caplog: pytest.LogCaptureFixture) -> None:
    """After some updates the run goes on from what it has saved: as if it had been resumed by hand."""
    by_hand = make(save_strategy="steps", save_steps=2, output_dir="by_hand")
    by_hand.room = 8
    by_hand.train()
    resumed = make(per_device_train_batch_size=2, gradient_accumulation_steps=4, output_dir="by_hand")
    resumed.train(resume_from_checkpoint="by_hand/checkpoint-2")
    trainer = make(save_strategy="steps", save_steps=2, output_dir="out", save_total_limit=1)
    trainer.first_step = 3
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert any("begins again from out/checkpoint-2 with 4 rows" in record.getMessage() for record in caplog.records)
    assert [step for step, rows in trainer.seen if rows == 8] == [0, 1, 2, 3]
    assert trainer.seen[-8:] == [(2, 2)] * 4 + [(3, 2)] * 4
    assert same(weights(trainer), weights(resumed))


def test_a_resumed_run_begins_again_where_it_was_resumed(make: Callable[..., PlainTrainer]) -> None:
    """Also where the last checkpoint is asked for by `True`."""
    first = make(save_strategy="steps", save_steps=2)
    first.room = 8
    first.train()
    shutil.rmtree(Path(first.args.output_dir) / "checkpoint-4")
    trainer = make()
    trainer.train(resume_from_checkpoint=True)
    assert min(step for step, _ in trainer.seen) == 2
    assert trainer.state.global_step == 4
    assert trainer.args.gradient_accumulation_steps == 4


def test_half_trained_weights_are_no_beginning(make: Callable[..., PlainTrainer]) -> None:
    """Without a checkpoint, or with one that cannot be resumed, the run ends with advice."""
    for options in ({}, {"save_strategy": "steps", "save_steps": 1, "save_only_model": True}):
        trainer = make(**options)
        trainer.first_step = 2
        with pytest.raises(TrainingMemoryError, match=r"in step 3.*no checkpoint.*per_device_train_batch_size=4"):
            trainer.train()
        assert len(trainer.seen) == 3


def test_one_row_cannot_be_halved(make: Callable[..., PlainTrainer]) -> None:
    """The message says what else helps."""
    trainer = make()
    trainer.room = 0
    with pytest.raises(TrainingMemoryError, match=r"one row per device.*max_length"):
        trainer.train()
    assert [rows for _, rows in trainer.seen] == [8, 4, 2, 1]


def test_other_errors_come_through(make: Callable[..., PlainTrainer]) -> None:
    """Only full memory makes batches smaller, and only in training: not in an evaluation."""
    trainer = make()
    trainer.error = ValueError("something else")
    with pytest.raises(ValueError, match="something else"):
        trainer.train()
    trainer = make()
    trainer.train_dataset = trainer.train_dataset.select(range(2))
    with pytest.raises(torch.OutOfMemoryError):
        trainer.evaluate(trainer.train_dataset.select([0, 1] * 4))


def test_switched_off(make: Callable[..., PlainTrainer]) -> None:
    """on_out_of_memory="error" leaves everything to transformers; auto_find_batch_size means halving."""
    trainer = make()
    trainer.args.on_out_of_memory = "error"
    with pytest.raises(torch.OutOfMemoryError):
        trainer.train()
    assert len(trainer.seen) == 1
    trainer = make(auto_find_batch_size=True)
    trainer.train()
    assert trainer.args.gradient_accumulation_steps == 4


def test_several_processes_are_refused(make: Callable[..., PlainTrainer], monkeypatch: pytest.MonkeyPatch) -> None:
    """They would wait for each other for ever; the message names the process and the sizes to set."""
    trainer = make(gradient_accumulation_steps=2)
    monkeypatch.setattr(type(trainer.args), "world_size", property(lambda _: 2))
    monkeypatch.setattr(type(trainer.args), "process_index", property(lambda _: 1))
    with pytest.raises(
        LangCoreError, match=r"Process 1 of 2.*per_device_train_batch_size=4 and gradient_accumulation_steps=4"
    ):
        trainer.train()
    assert len(trainer.seen) == 1


def test_the_core_is_frozen_in_every_attempt(
    tiny: SimpleNamespace, sft_args: Callable[..., Any], tokenizer: Any, task: Dataset, general: Dataset
) -> None:
    """With TRL's trainer, general data and the freeze: 0 core bits changed, and the rows are those of a small run."""

    def run(**options: Any) -> SFTTrainer:
        args = sft_args(max_steps=2, general_data_ratio=1.0, **options)
        model = tiny.llama()
        trainer = SFTTrainer(
            model=model,
            args=args,
            train_dataset=task,
            processing_class=tokenizer,
            general_dataset=general,
            core_mask=tiny.core_of(model),
        )
        before = tiny.bits_of(model)
        trainer.train()
        core, complement = tiny.changed_bits(before, model, tiny.core_of(tiny.llama()))
        assert core == 0
        assert complement > 0
        return trainer

    made = run(per_device_train_batch_size=8)
    assert made.args.gradient_accumulation_steps == 4
    small = run(per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert same(weights(made), weights(small))
    # What the failed attempts have seen is not counted as consumed.
    assert made.consumed_mixture() == small.consumed_mixture() != ()


def test_resuming_from_nothing_is_refused_by_name(make: Callable[..., PlainTrainer], tmp_path: Path) -> None:
    """Not with transformers' ValueError, and before anything is trained."""
    trainer = make(output_dir=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match="there is none in"):
        trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 0
