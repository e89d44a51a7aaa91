"""What a callback finds out about its training: the trackers, the tokenizer, small sets and unsupported strategies."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, default_data_collator
from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback

from hf_langcore.errors import ConfigurationError, UnsupportedModelError
from hf_langcore.training import CoreFreezeCallback
from hf_langcore.training.anchor import AnchorCallback
from hf_langcore.training.sentinel import LanguageSentinel
from hf_langcore.training.sentinel_training import (
    SMALL_ROWS,
    calling_handler,
    log,
    require_supported,
    tokenizer_of,
    warn_of_repeated_small_set,
)

TEXTS = {"en": ["the cat sat on the mat and a dog"]}

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated:FutureWarning")


class Listener(TrainerCallback):
    def __init__(self) -> None:
        self.heard: list[dict[str, float]] = []
        self.found: Any = None

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.found = calling_handler()

    def on_log(self, args: Any, state: Any, control: Any, *, logs: dict[str, float], **_: Any) -> None:
        self.heard.append(dict(logs))


def test_the_calling_handler_is_found() -> None:
    """From inside a callback; outside there is none."""
    listener = Listener()
    handler = CallbackHandler([DefaultFlowCallback(), listener], None, None, None, None)
    handler.on_train_begin(None, TrainerState(), TrainerControl())
    assert listener.found is handler
    assert calling_handler() is None


@pytest.mark.parametrize("should_log", [False, True])
def test_logging_reaches_all_and_leaves_the_control_alone(should_log: bool) -> None:
    """A log that the Trainer is about to write is still written."""
    listener, control = Listener(), TrainerControl(should_log=should_log)
    handler = CallbackHandler([DefaultFlowCallback(), listener], None, None, None, None)
    state = TrainerState(global_step=4, epoch=0.5)
    log(handler, None, state, control, {"sentinel/x": 1.0})
    assert listener.heard == [{"sentinel/x": 1.0, "epoch": 0.5}]
    assert state.log_history == [{"sentinel/x": 1.0, "epoch": 0.5, "step": 4}]
    assert control.should_log is should_log
    log(None, None, state, control, {"sentinel/x": 2.0})
    assert state.log_history[-1]["sentinel/x"] == 2.0


def test_the_tokenizer_of_a_processor_is_its_own() -> None:
    """Models with images have a processor instead."""
    tokenizer = SimpleNamespace(bos_token_id=1)
    assert tokenizer_of(tokenizer) is tokenizer
    assert tokenizer_of(SimpleNamespace(tokenizer=tokenizer)) is tokenizer
    with pytest.raises(ConfigurationError, match="no tokenizer"):
        tokenizer_of(None)


def test_unsupported_strategies_are_refused_by_name(tiny: SimpleNamespace) -> None:
    """FSDP version 1 always, DeepSpeed only where weights are to go back."""

    class FullyShardedDataParallel(nn.Module):
        pass

    model = tiny.llama()
    for name, args in (
        ("FSDP", {"fsdp": True, "fsdp_plugin_args": {"fsdp_version": 1}}),
        ("DeepSpeed", {"deepspeed": "x"}),
    ):
        with pytest.raises(UnsupportedModelError, match=name):
            require_supported(model, SimpleNamespace(**args), reverts=True)
    require_supported(model, SimpleNamespace(deepspeed="x"), reverts=False)
    require_supported(model, SimpleNamespace(fsdp=True, fsdp_plugin_args={"fsdp_version": 2}), reverts=True)
    model.lm_head = FullyShardedDataParallel()
    with pytest.raises(UnsupportedModelError, match="version 1"):
        require_supported(model, SimpleNamespace(), reverts=False)


@pytest.fixture
def warned(tiny: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> Callable[..., bool]:
    """Whether a training is warned of: ten rows of twelve tokens, three times, unless told otherwise."""

    def ask(
        *callbacks: Any, rows: Any = None, epochs: float = 3, protected: bool = False, model: nn.Module | None = None
    ) -> bool:
        rows = [{"input_ids": [5] * 12}] * 10 if rows is None else rows
        loader = torch.utils.data.DataLoader(rows, batch_size=2, collate_fn=list)
        steps = len(rows) // 2 if hasattr(rows, "__len__") else 1
        state = TrainerState(max_steps=round(steps * epochs), num_train_epochs=-int(-epochs // 1))
        args = SimpleNamespace(gradient_accumulation_steps=1)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            warn_of_repeated_small_set(model or tiny.llama(), args, state, loader, callbacks, is_protected=protected)
        return "The training set is small" in caplog.text

    return ask


def test_a_small_set_read_twice_without_protection_is_warned_of(
    warned: Callable[..., bool], tiny: SimpleNamespace
) -> None:
    """Not for one epoch, not with a frozen or anchored core or general data, not for a large set."""
    assert warned()
    assert warned(epochs=1.2)
    assert not warned(epochs=1)
    assert not warned(epochs=0.4)  # the Trainer's own number of epochs is rounded up
    assert not warned(CoreFreezeCallback(tiny.core_of(tiny.llama())))
    assert not warned(AnchorCallback(0.1))
    assert warned(DefaultFlowCallback())
    assert not warned(protected=True)
    parameters = sum(parameter.numel() for parameter in tiny.llama().parameters())
    assert not warned(rows=[{"input_ids": [5] * (parameters // 99)}] * 10)
    assert warned(rows=[{"input_ids": [5] * (parameters // 101)}] * 10)


def test_rows_count_where_tokens_do_not(warned: Callable[..., bool]) -> None:
    """Untokenised rows are counted; streams do not repeat unasked."""
    assert warned(rows=[{"text": "a"}] * (SMALL_ROWS - 2))
    assert not warned(rows=[{"text": "a"}] * SMALL_ROWS)
    stream = Dataset.from_list([{"text": "a"}] * 4).to_iterable_dataset()
    assert not warned(rows=stream.with_format("torch"))


def test_an_adapter_that_keeps_off_the_core_protects_and_another_does_not(
    warned: Callable[..., bool], tiny: SimpleNamespace
) -> None:
    """CORE_REGION against LoRA."""
    peft = pytest.importorskip("peft")
    from hf_langcore import CoreRegionConfig

    core_mask = tiny.core_of(tiny.llama())
    assert not warned(model=peft.get_peft_model(tiny.llama(), CoreRegionConfig(core_mask=core_mask, r=2)))
    lora = peft.LoraConfig(r=8, target_modules=["q_proj", "down_proj"])
    assert warned(model=peft.get_peft_model(tiny.llama(), lora))


def test_trls_running_means_are_not_emptied(
    sft_args: Callable[..., Any], tokenizer: Any, task: Dataset, tiny: Any
) -> None:
    """TRL logs the mean over the steps since its last log, also where the sentinel logged between them."""
    from trl import SFTTrainer

    def history(*callbacks: Any) -> list[dict[str, Any]]:
        args = sft_args(max_steps=4, logging_strategy="steps", logging_steps=4)
        trainer = SFTTrainer(
            tiny.llama(), args=args, train_dataset=task, processing_class=tokenizer, callbacks=list(callbacks)
        )
        trainer.train()
        return [entry for entry in trainer.state.log_history if "loss" in entry]

    sentinel = LanguageSentinel(TEXTS, every=1)
    (alone,), (watched,) = history(), history(sentinel)
    assert alone["mean_token_accuracy"] == watched["mean_token_accuracy"]
    assert alone["entropy"] == watched["entropy"]
    assert len(sentinel.measurements) == 5


def test_preference_training_is_watched_too(plain_args: Callable[..., Any], tokenizer: Any, tiny: Any) -> None:
    """TRL's DPOTrainer takes the same callback."""
    from trl import DPOConfig, DPOTrainer

    rows = Dataset.from_list([{"prompt": "a cat", "chosen": " sat", "rejected": " ran"}] * 8)
    values = {"per_device_train_batch_size": 2, "max_steps": 2, "bf16": False, "use_cpu": True, "report_to": "none"}
    args = DPOConfig("out", **values, save_strategy="no", gradient_checkpointing=False, disable_tqdm=True)
    sentinel = LanguageSentinel(TEXTS, every=1)
    trainer = DPOTrainer(
        tiny.llama(), tiny.llama(), args=args, train_dataset=rows, processing_class=tokenizer, callbacks=[sentinel]
    )
    trainer.train()
    assert [entry["step"] for entry in trainer.state.log_history if "sentinel/ppl_en" in entry] == [0, 1, 2]


def test_the_warning_comes_from_a_real_training(
    plain_args: Callable[..., Any], token_rows: Dataset, tokenizer: Any, tiny: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Sixteen rows in four steps an epoch: six steps are one and a half."""
    for steps, epochs in ((4, None), (6, "1.5")):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            Trainer(
                model=tiny.llama(),
                args=plain_args(max_steps=steps),
                train_dataset=token_rows,
                data_collator=default_data_collator,
                processing_class=tokenizer,
                callbacks=[LanguageSentinel(TEXTS)],
            ).train()
        assert ("The training set is small" in caplog.text) == (epochs is not None)
        assert (
            epochs is None
            or f"about 192 tokens for 39,840 trained parameters) and is read {epochs} times" in caplog.text
        )
