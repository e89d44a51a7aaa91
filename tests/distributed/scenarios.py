"""What the processes of a distributed test do: each function trains, looks at its own shards and reports plain numbers.

Every function takes the folder that the processes share and whether to train in mixed bfloat16.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from counting import count_changed, distance, whole
from safetensors.torch import load_file
from strategies import reshard, strategy_of
from tiny import arguments, build, copy_of, core_of, rows, trainer_of
from torch import nn
from transformers import TrainerCallback

from hf_langcore.architecture import bare_weights
from hf_langcore.errors import UnsupportedModelError
from hf_langcore.masks import bits_of
from hf_langcore.training import AnchorCallback, CoreFreezeCallback, freeze
from hf_langcore.training.holdings import holdings

Report = dict[str, Any]


def train_frozen(folder: Path, *, bf16: bool) -> Report:
    """Freeze, evaluate in between, save; nothing of the core may change anywhere."""
    model = build()
    core_mask, base = core_of(model), copy_of(model)
    writes = _count_writes()
    trainer = trainer_of(
        model, folder, CoreFreezeCallback(core_mask), bf16=bf16, eval_strategy="steps", eval_steps=1, max_steps=3
    )
    trainer.train()
    evaluated = sum("eval_loss" in line for line in trainer.state.log_history)
    strategy, changed = strategy_of(trainer.model), count_changed(trainer.model, base, core_mask)
    dtype = next(iter(bare_weights(trainer.model).values())).parameter.dtype
    trainer.save_model(str(folder / "saved"))
    torch.distributed.barrier()
    values = load_file(folder / "core_values.safetensors")
    wrong = [name for name in core_mask if not torch.equal(values[name], base[name].to(dtype)[core_mask[name]])]
    return {
        "strategy": strategy,
        "processes": torch.distributed.get_world_size(),
        "dtype": str(dtype),
        "evaluations": evaluated,
        "core_values_written": len(writes),
        "core_values_wrong": wrong,
        "saved_core_changed": _changed_in(folder / "saved", base, core_mask, dtype),
        **changed._asdict(),
    }


def train_free(folder: Path, *, bf16: bool) -> Report:
    """The same without the freeze: the measure must be able to fail."""
    model = build()
    core_mask, base = core_of(model), copy_of(model)
    trainer = trainer_of(model, folder, bf16=bf16)
    trainer.train()
    return {**count_changed(trainer.model, base, core_mask)._asdict()}


def resume_drifted(folder: Path, *, bf16: bool) -> Report:
    """A checkpoint whose core was changed before it was saved, masters too, is put right when training goes on."""
    model = build()
    core_mask, base = core_of(model), copy_of(model)
    saving = {"save_strategy": "steps", "save_steps": 2, "bf16": bf16}
    # After the freeze, so that nothing puts the core right before step 2 is saved.
    trainer_of(model, folder, CoreFreezeCallback(core_mask), DriftAt(2, core_mask), **saving).train()
    first_values = (folder / "core_values.safetensors").stat().st_mtime_ns
    resumed = build()
    messages = _collect_warnings(freeze.logger)
    trainer = trainer_of(resumed, folder, CoreFreezeCallback(core_mask), **saving, max_steps=4)
    trainer.train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    return {
        "steps": trainer.state.global_step,
        "warnings": [message for message in messages if "were put right" in message],
        "core_values_kept": first_values == (folder / "core_values.safetensors").stat().st_mtime_ns,
        **count_changed(trainer.model, base, core_mask)._asdict(),
    }


def load_best(folder: Path, *, bf16: bool) -> Report:
    """The best checkpoint is loaded when training ends; it has the core as well."""
    model = build()
    core_mask, base = core_of(model), copy_of(model)
    trainer = trainer_of(
        model,
        folder,
        CoreFreezeCallback(core_mask),
        bf16=bf16,
        load_best_model_at_end=True,
        save_strategy="steps",
        save_steps=1,
        eval_strategy="steps",
        eval_steps=1,
    )
    trainer.train()
    return {
        "best": trainer.state.best_model_checkpoint,
        **count_changed(trainer.model, base, core_mask)._asdict(),
    }


def mask_gradients(folder: Path, *, bf16: bool) -> Report:
    """Core gradients are zero when they are clipped, in every process."""
    model = build()
    core_mask, base = core_of(model), copy_of(model)
    look = LookAtGradients(core_mask)
    trainer = trainer_of(model, folder, CoreFreezeCallback(core_mask, mask_gradients=True), look, bf16=bf16)
    trainer.train()
    return {
        "looked": look.looked,
        "core_gradients": look.core,
        "other_gradients": look.other,
        **count_changed(trainer.model, base, core_mask)._asdict(),
    }


def refuse_masked_gradients(folder: Path, *, bf16: bool) -> Report:
    """DeepSpeed reduces gradients into its own buffers, past all hooks: refused by name, in every process."""
    model = build()
    callback = CoreFreezeCallback(core_of(model), mask_gradients=True)
    trainer = trainer_of(model, folder, callback, bf16=bf16)
    try:
        trainer.train()
    except UnsupportedModelError as error:
        return {"message": str(error), "steps": trainer.state.global_step}
    return {"message": None}


def schedule_free(folder: Path, *, bf16: bool) -> Report:
    """The evaluated weights are made from a second copy in the optimizer's state, which is sharded as they are."""
    from schedulefree import AdamWScheduleFree

    model = build()
    core_mask, base = core_of(model), copy_of(model)
    trainer = trainer_of(
        model,
        folder,
        CoreFreezeCallback(core_mask),
        optimizer=(AdamWScheduleFree, {"lr": 1e-2}),
        bf16=bf16,
        eval_strategy="steps",
        eval_steps=1,
    )
    trainer.train()
    state, weights = trainer.optimizer.state, bare_weights(trainer.model)
    # DeepSpeed's state is flat, without a copy of each weight.
    found = [name for name in core_mask if weights[name].parameter in state]
    copies = {name: whole(state[weights[name].parameter]["z"])[core_mask[name]] for name in found}
    wrong = [name for name, copy in copies.items() if not torch.equal(copy, base[name][core_mask[name]])]
    changed = count_changed(trainer.model, base, core_mask)
    return {"copies": len(copies), "copies_wrong": wrong, **changed._asdict()}


def anchor(folder: Path, *, bf16: bool) -> Report:
    """The largest distance to the base without an anchor, with a strong one, and with one of strength 1."""
    distances = {}
    for name, strength in {"free": None, "anchored": 0.3, "tied": 1.0}.items():
        model = build()
        base = copy_of(model)
        callbacks = [] if strength is None else [AnchorCallback(strength)]
        trainer = trainer_of(model, folder / name, *callbacks, bf16=bf16, max_steps=4)
        trainer.train()
        distances[name] = distance(trainer.model, base)
    return distances


def sft(folder: Path, *, bf16: bool) -> Report:
    """CoreRegionSFTTrainer, everything by name, with a core and general data."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    from hf_langcore import CoreRegionSFTConfig, CoreRegionSFTTrainer

    words = {f"w{number}": number for number in range(300)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w3")),  # noqa: S106 a word
        bos_token="w0",  # noqa: S106
        eos_token="w1",  # noqa: S106
        pad_token="w2",  # noqa: S106
    )
    model = build()
    core_mask, base = core_of(model), copy_of(model)
    plain = arguments(folder, bf16=bf16)
    if torch.distributed.get_rank() == 0:
        model.save_pretrained(folder / "base")
        core_mask.save_pretrained(folder / "core")
    torch.distributed.barrier()
    kept = ("output_dir", "max_steps", "learning_rate", "weight_decay", "use_cpu", "disable_tqdm", "bf16")
    args = CoreRegionSFTConfig(
        **{name: getattr(plain, name) for name in kept},
        report_to="none",
        save_strategy="no",
        gradient_checkpointing=False,
        max_length=12,
        general_data_ratio=1.0,
        per_device_train_batch_size=2,
    )
    tokens = rows().select_columns("input_ids")
    trainer = CoreRegionSFTTrainer(
        model=str(folder / "base"),  # FSDP2 then loads it in one process only, ZeRO-3 in partitions
        args=args,
        train_dataset=tokens,
        general_dataset=tokens,
        processing_class=tokenizer,
        core_mask=str(folder / "core"),
    )
    trainer.train()
    return {
        "strategy": strategy_of(trainer.model),
        **count_changed(trainer.model, base, core_mask)._asdict(),
    }


SCENARIOS: dict[str, Callable[..., Report]] = {
    function.__name__: function
    for function in (
        *(train_frozen, train_free, resume_drifted, load_best, sft),
        *(mask_gradients, refuse_masked_gradients, schedule_free, anchor),
    )
}


class DriftAt(TrainerCallback):
    """Changes the core at the end of a step, in every place that a checkpoint is made of."""

    def __init__(self, step: int, core_mask: Any) -> None:
        self.step, self.core_mask = step, core_mask

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: nn.Module, **_: Any) -> None:
        """Write to weights and masters, then let the step be saved."""
        if state.global_step != self.step:
            return
        reshard(model)
        for name, weight in bare_weights(model).items():
            if name not in self.core_mask:
                continue
            for place in holdings(name, weight.parameter):
                live = place.live()
                if live is not None:
                    live[place.part_of(self.core_mask[name])] += 1


class LookAtGradients(TrainerCallback):
    """Counts gradients that are not zero, after clipping."""

    def __init__(self, core_mask: Any) -> None:
        self.core_mask = core_mask
        self.looked = self.core = self.other = 0

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, *, model: nn.Module, **_: Any) -> None:
        weights = bare_weights(model)
        self.looked += 1
        for name in self.core_mask:
            gradient = whole(nn.Parameter(weights[name].parameter.grad))
            self.core += int((gradient[self.core_mask[name]] != 0).sum())
            self.other += int((gradient[~self.core_mask[name]] != 0).sum())


def _changed_in(folder: Path, base: dict[str, torch.Tensor], core_mask: Any, dtype: torch.dtype) -> int:
    """Core bits that differ in the file of a saved model."""
    saved = load_file(folder / "model.safetensors")
    return sum(
        int((bits_of(saved[name]) != bits_of(base[name].to(dtype)))[core_mask[name]].sum()) for name in core_mask
    )


def _count_writes() -> list[str]:
    """Notes each call that writes core_values.safetensors in this process."""
    calls: list[str] = []
    original = getattr(freeze.write_core_values, "original", freeze.write_core_values)

    def counted(folder: Path, *args: Any, **options: Any) -> None:
        calls.append(str(folder))
        original(folder, *args, **options)

    counted.original = original  # type: ignore[attr-defined]
    freeze.write_core_values = counted
    return calls


def _collect_warnings(logger: logging.Logger) -> list[str]:
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    return messages
