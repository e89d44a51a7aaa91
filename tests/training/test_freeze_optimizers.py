"""The freeze with optimizers that move weights whose gradient is zero, with other ways to compute, and in DPO and GRPO."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel
from transformers import Trainer, TrainerCallback, default_data_collator
from transformers.optimization import Adafactor

from hf_langcore.architecture import bare_weights
from hf_langcore.masks import CoreMask
from hf_langcore.training import CoreFreezeCallback

# TRL and PEFT still use the old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated:FutureWarning")

Optimizer = tuple[type[torch.optim.Optimizer], dict[str, Any]]


class MuonForMatrices(torch.optim.Muon):
    """Muon takes matrices only, so that vectors do not move."""

    def __init__(self, params: Any, **options: Any) -> None:
        groups = [{**group, "params": [one for one in group["params"] if one.ndim > 1]} for group in params]
        super().__init__([group for group in groups if group["params"]], **options)


def _adamw_8bit() -> Optimizer:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    return bitsandbytes.optim.AdamW8bit, {"lr": 1e-2, "min_8bit_size": 256}  # a tiny model has small matrices


def _lion() -> Optimizer:
    return pytest.importorskip("lion_pytorch").Lion, {"lr": 1e-2}


def _schedule_free() -> Optimizer:
    return pytest.importorskip("schedulefree").AdamWScheduleFree, {"lr": 1e-2}


OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "AdamW, fused": lambda: (torch.optim.AdamW, {"lr": 1e-2, "fused": True}),
    "Adam, L2": lambda: (torch.optim.Adam, {"lr": 1e-2}),
    "SGD, momentum": lambda: (torch.optim.SGD, {"lr": 1e-2, "momentum": 0.9}),
    "Adafactor": lambda: (Adafactor, {"lr": 1e-2, "scale_parameter": False, "relative_step": False}),
    "Muon": lambda: (MuonForMatrices, {"lr": 1e-2}),
    "AdamW, 8-bit": _adamw_8bit,
    "Lion": _lion,
    "schedule-free": _schedule_free,
}


@pytest.fixture
def trainer_of(plain_args: Callable[..., Any], token_rows: Dataset) -> Callable[..., Trainer]:
    """A plain Trainer; the optimizer is a class with its arguments."""

    def make(model: nn.Module, *callbacks: Any, optimizer: Optimizer | None = None, **args: Any) -> Trainer:
        return Trainer(
            model=model,
            args=plain_args(**args),
            train_dataset=token_rows,
            eval_dataset=token_rows,
            data_collator=default_data_collator,
            callbacks=list(callbacks),
            optimizer_cls_and_kwargs=optimizer,
        )

    return make


class MaskGradients(TrainerCallback):
    """The control: what many scripts do instead of freezing."""

    def __init__(self, core_mask: CoreMask) -> None:
        self.core_mask = core_mask

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, *, model: nn.Module, **_: Any) -> None:
        for name, weight in bare_weights(model).items():
            if name in self.core_mask:
                weight.parameter.grad[self.core_mask[name]] = 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_keeps_the_core_where_masked_gradients_do_not(
    trainer_of: Callable[..., Trainer], tiny: SimpleNamespace, name: str, dtype: torch.dtype
) -> None:
    """Weight decay and 8-bit state move weights without a gradient, and the freeze puts them back."""
    changed = {}
    for way in (CoreFreezeCallback, MaskGradients):
        model = tiny.llama(dtype)
        core_mask, before = tiny.core_of(model), tiny.bits_of(model)
        trainer = trainer_of(model, way(core_mask), optimizer=OPTIMIZERS[name](), weight_decay=0.5)
        trainer.train()
        states = [value for state in trainer.optimizer.state.values() for value in state.values()]
        assert any(getattr(value, "dtype", None) is torch.uint8 for value in states) == ("8-bit" in name)
        changed[way] = tiny.changed_bits(before, model, core_mask)
    core, complement = changed[CoreFreezeCallback]
    assert core == 0
    assert complement > 0.5 * changed[MaskGradients][1] > 0
    assert changed[MaskGradients][0] > 0


class CompareWhileEvaluating(TrainerCallback):
    """Counts core weights that are not the base's at the moment when the model is evaluated."""

    def __init__(self, before: dict[str, torch.Tensor], count: Callable[..., Any], core_mask: CoreMask) -> None:
        self.before, self.count, self.core_mask = before, count, core_mask
        self.core, self.complement = [], []

    def on_prediction_step(self, args: Any, state: Any, control: Any, *, model: nn.Module, **_: Any) -> None:
        core, complement = self.count(self.before, model, self.core_mask)
        self.core.append(core)
        self.complement.append(complement)


def test_schedule_free_averages_are_evaluated_and_saved_with_the_core(
    trainer_of: Callable[..., Trainer], tiny: SimpleNamespace, tmp_path: Path
) -> None:
    """It trains other weights than it evaluates, and makes the one from the other and a second copy in its state."""
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    base = {name: weight.parameter.detach().clone() for name, weight in bare_weights(model).items()}
    compare = CompareWhileEvaluating(before, tiny.changed_bits, core_mask)
    steps = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    trainer = trainer_of(
        model, CoreFreezeCallback(core_mask), compare, optimizer=_schedule_free(), weight_decay=0.5, **steps
    )
    trainer.train()
    assert len(compare.core) >= 3
    assert set(compare.core) == {0}
    assert min(compare.complement) > 0
    for step in (1, 2, 3):
        saved = load_file(tmp_path / f"out/checkpoint-{step}/model.safetensors")
        assert all(torch.equal(saved[name][core_mask[name]], base[name][core_mask[name]]) for name in core_mask)
    for name, weight in bare_weights(model).items():
        if name in core_mask:
            copy = trainer.optimizer.state[weight.parameter]["z"]
            assert torch.equal(copy[core_mask[name]], base[name][core_mask[name]])


@pytest.mark.parametrize("scale", [2.0**10, 2.0**120], ids=["steps", "overflows"])
def test_float16_with_a_scaled_loss_keeps_the_core(
    trainer_of: Callable[..., Trainer], tiny: SimpleNamespace, scale: float
) -> None:
    """Also where steps are skipped because gradients overflow; accelerate leaves the scaler out on CPUs."""
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    trainer = trainer_of(model, CoreFreezeCallback(core_mask), fp16=True)
    trainer.accelerator.native_amp = True
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    trainer.train()
    core, complement = tiny.changed_bits(before, model, core_mask)
    assert core == 0
    assert (complement > 0) == (scale < 2.0**100)
    assert (trainer.accelerator.scaler.get_scale() < scale) == (scale > 2.0**100)


@pytest.mark.parametrize(
    "options",
    [
        {"torch_compile": True, "torch_compile_backend": "aot_eager"},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
        {"bf16": True, "gradient_accumulation_steps": 2, "max_grad_norm": 0.1},
    ],
    ids=["compile", "checkpointing", "all at once"],
)
def test_other_ways_to_compute_keep_the_core(
    trainer_of: Callable[..., Trainer], tiny: SimpleNamespace, options: dict[str, Any]
) -> None:
    """Compiled models and recomputed activations make no difference."""
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    trainer_of(model, CoreFreezeCallback(core_mask), **options).train()
    core, complement = tiny.changed_bits(before, model, core_mask)
    assert core == 0
    assert complement > 0.5 * (core_mask.numel() - core_mask.count())


@pytest.mark.parametrize("masked", [True, False])
def test_masked_gradients_leave_the_core_out_of_the_clipped_norm(
    trainer_of: Callable[..., Trainer], tiny: SimpleNamespace, token_rows: Dataset, *, masked: bool
) -> None:
    """The logged norm, from before clipping, is that of the complement, or without the option that of everything."""
    model = tiny.llama()
    core_mask = tiny.core_of(model, fraction=0.3)
    batch = torch.tensor(token_rows["input_ids"])
    model(input_ids=batch, labels=batch).loss.backward()
    gradients = {name: weight.parameter.grad.clone() for name, weight in bare_weights(model).items()}
    model.zero_grad()
    if masked:
        for name in core_mask:
            gradients[name][core_mask[name]] = 0
    expected = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    trainer = trainer_of(
        model,
        CoreFreezeCallback(core_mask, mask_gradients=masked),
        max_steps=1,
        per_device_train_batch_size=len(batch),
        logging_strategy="steps",
        logging_steps=1,
    )
    trainer.train()
    logged = next(line["grad_norm"] for line in trainer.state.log_history if "grad_norm" in line)
    assert float(logged) == pytest.approx(float(expected), rel=1e-3)


def test_gradients_are_masked_only_during_training(trainer_of: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    """When training ends the hooks are taken away; no process keeps a model with secret zeros."""
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    trainer_of(model, CoreFreezeCallback(core_mask, mask_gradients=True), weight_decay=0.5).train()
    assert tiny.changed_bits(before, model, core_mask)[0] == 0
    model.zero_grad()
    batch = torch.arange(12)[None]
    model(input_ids=batch, labels=batch).loss.backward()
    weights = bare_weights(model)
    assert any((weights[name].parameter.grad[core_mask[name]] != 0).any() for name in core_mask)


class Average(TrainerCallback):
    """A moving average as many scripts compute it: the sum of two products, which rounds."""

    def __init__(self, average: AveragedModel) -> None:
        self.average = average

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: nn.Module, **_: Any) -> None:
        self.average.update_parameters(model)


@pytest.mark.parametrize("named", [True, False])
def test_a_moving_average_keeps_the_core_when_it_is_named(
    trainer_of: Callable[..., Trainer], tiny: SimpleNamespace, *, named: bool
) -> None:
    """Without `averages=` rounding changes the average's core; the model's own is kept all the same."""
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    average = AveragedModel(model, avg_fn=lambda old, new, _: 0.9 * old + 0.1 * new)
    freeze = CoreFreezeCallback(core_mask, averages=[average] if named else ())
    trainer_of(model, Average(average), freeze, max_steps=4).train()
    assert tiny.changed_bits(before, model, core_mask)[0] == 0
    core, complement = tiny.changed_bits(before, average.module, core_mask)
    assert (core == 0) == named
    assert complement > 0


def _trl_options(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "max_steps": 2,
        "learning_rate": 1e-2,
        "weight_decay": 0.5,
        "lr_scheduler_type": "constant",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }


def test_preferences_are_learned_outside_the_core(tiny: SimpleNamespace, tokenizer: Any, tmp_path: Path) -> None:
    """DPO: TRL's trainer takes the callback as it is."""
    trl = pytest.importorskip("trl")
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    pairs = [{"prompt": f"question {i} ", "chosen": f"answer {i}", "rejected": "the dog"} for i in range(8)]
    trl.DPOTrainer(
        model=model,
        ref_model=tiny.llama(),
        args=trl.DPOConfig(per_device_train_batch_size=2, max_length=32, **_trl_options(tmp_path)),
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer,
        callbacks=[CoreFreezeCallback(core_mask)],
    ).train()
    core, complement = tiny.changed_bits(before, model, core_mask)
    assert core == 0
    assert complement > 0


def test_rewards_are_learned_outside_the_core(tiny: SimpleNamespace, tokenizer: Any, tmp_path: Path) -> None:
    """GRPO: the model that generates is the one that is trained."""
    trl = pytest.importorskip("trl")
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    args = trl.GRPOConfig(
        per_device_train_batch_size=4, num_generations=4, max_completion_length=4, **_trl_options(tmp_path)
    )
    trl.GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [float(index) for index, _ in enumerate(completions)],
        args=args,
        train_dataset=Dataset.from_list([{"prompt": f"question {i}"} for i in range(8)]),
        processing_class=tokenizer,
        callbacks=[CoreFreezeCallback(core_mask)],
    ).train()
    core, complement = tiny.changed_bits(before, model, core_mask)
    assert core == 0
    assert complement > 0
