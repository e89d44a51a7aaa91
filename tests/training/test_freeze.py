"""The freeze in a plain transformers Trainer: 0 bits of the core change, whatever the optimizer does."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, default_data_collator

from hf_langcore.architecture import Weight
from hf_langcore.binding import LINEAGE_ATTRIBUTE, bind
from hf_langcore.errors import (
    ConfigurationError,
    CoreMaskMismatchError,
    InputError,
    ModelChangedError,
    UnsupportedModelError,
)
from hf_langcore.masks import CoreMask
from hf_langcore.training import CoreFreezeCallback, CoreFreezer

# TRL and PEFT still use the old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated:FutureWarning")


@pytest.fixture
def train(plain_args: Callable[..., Any], token_rows: Dataset) -> Callable[..., Trainer]:
    """Train a model for a few steps with the plain Trainer."""

    def run(
        model: nn.Module, *callbacks: Any, resume: Any = None, optimizers: Any = (None, None), **args: Any
    ) -> Trainer:
        trainer = Trainer(
            model=model,
            args=plain_args(**args),
            train_dataset=token_rows,
            eval_dataset=token_rows,
            data_collator=default_data_collator,
            callbacks=list(callbacks),
            optimizers=optimizers,
        )
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    return run


class MaskGradients(TrainerCallback):
    """The control: what many scripts do instead."""

    def __init__(self, model: nn.Module, core_mask: CoreMask) -> None:
        self.weights, self.core_mask = bind(model, core_mask), core_mask

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for name, weight in self.weights.items():
            weight.parameter.grad[self.core_mask[name]] = 0


class SpoilGradients(TrainerCallback):
    """Makes the gradients of one step NaN."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, *, model: nn.Module, **_: Any) -> None:
        if state.global_step == 1:
            for parameter in model.parameters():
                parameter.grad.fill_(float("nan"))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_core_bit_changes_and_the_complement_learns(
    train: Callable[..., Trainer], tiny: SimpleNamespace, dtype: torch.dtype, architecture: str
) -> None:
    """AdamW with weight decay moves everything but the core."""
    model = getattr(tiny, architecture)(dtype)
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    train(model, CoreFreezeCallback(core_mask))
    core, complement = tiny.changed_bits(before, model, core_mask)
    assert core == 0
    assert complement > 0.5 * (core_mask.numel() - core_mask.count())


def test_masked_gradients_alone_do_not_protect_the_core(train: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    """The control: with zeroed gradients weight decay still changes core weights."""
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    train(model, MaskGradients(model, core_mask))
    core, _ = tiny.changed_bits(before, model, core_mask)
    assert core > 0.5 * core_mask.count()


@pytest.mark.parametrize(
    "options",
    [
        {"optim": "adafactor"},
        {"optim": "sgd", "optim_args": "momentum=0.9"},
        {"gradient_accumulation_steps": 2},
        {"max_grad_norm": 1e-3},
        {"max_grad_norm": 0.0},
        {"bf16": True},
    ],
    ids=str,
)
def test_every_way_to_step_keeps_the_core(
    train: Callable[..., Trainer], tiny: SimpleNamespace, options: dict[str, Any]
) -> None:
    """Optimizers, accumulation, clipping and mixed precision make no difference."""
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    train(model, CoreFreezeCallback(core_mask), **options)
    core, complement = tiny.changed_bits(before, model, core_mask)
    assert core == 0
    assert complement > 0


def test_an_optimizer_with_momentum_from_before_keeps_the_core(
    train: Callable[..., Trainer], tiny: SimpleNamespace
) -> None:
    """State that an optimizer brings along moves weights whose gradient is zero, but not the core."""
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for parameter in model.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.ones_like(parameter)
    train(model, CoreFreezeCallback(core_mask), optimizers=(optimizer, None))
    assert tiny.changed_bits(before, model, core_mask)[0] == 0


def test_a_step_with_nan_gradients_leaves_the_core_finite(
    train: Callable[..., Trainer], tiny: SimpleNamespace
) -> None:
    """NaN reaches the complement, never the core."""
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    train(model, SpoilGradients(), CoreFreezeCallback(core_mask), max_grad_norm=0.0)
    assert tiny.changed_bits(before, model, core_mask)[0] == 0
    name = next(name for name in core_mask if core_mask.count(name))
    weight = dict(model.named_parameters())[name]
    assert weight[~core_mask[name]].isnan().any()
    assert weight[core_mask[name]].isfinite().all()


def test_tied_embeddings_and_frozen_parameters_train(train: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    """Tied parameters count once, and parameters that do not train at all are no problem."""
    model = tiny.llama(tie=True)
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    model.model.layers[0].requires_grad_(False)
    train(model, CoreFreezeCallback(core_mask))
    core, complement = tiny.changed_bits(before, model, core_mask)
    assert core == 0
    assert complement > 0


def test_a_saved_model_still_fits_the_mask(
    train: Callable[..., Trainer], tiny: SimpleNamespace, tmp_path: Path
) -> None:
    """The lineage travels with save_pretrained, so that a second round of training needs no base_check."""
    model = tiny.llama()
    core_mask = tiny.core_of(model)
    train(model, CoreFreezeCallback(core_mask)).save_model(str(tmp_path / "saved"))
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype="auto")
    assert getattr(saved.config, LINEAGE_ATTRIBUTE) == [core_mask.provenance.base_fingerprint.total]
    assert set(bind(saved, core_mask)) == set(core_mask)
    setattr(saved.config, LINEAGE_ATTRIBUTE, None)
    with pytest.raises(CoreMaskMismatchError, match="other weights"):
        bind(saved, core_mask)


def _lineage(model: Any) -> list[str]:
    return getattr(model.config, LINEAGE_ATTRIBUTE, None) or []


def _moved(model: nn.Module) -> nn.Module:
    """The same architecture with other weights."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5)
    return model


def test_lineage_is_noted_only_for_models_of_the_base(
    train: Callable[..., Trainer], tiny: SimpleNamespace, tmp_path: Path
) -> None:
    """Other weights that base_check lets through do not become relatives of the mask's base."""
    core_mask = tiny.core_of(tiny.llama())
    base = tiny.llama()
    train(base, CoreFreezeCallback(core_mask, base_check="off"), max_steps=1)
    assert _lineage(base) == [core_mask.provenance.base_fingerprint.total]
    train(base, CoreFreezeCallback(core_mask), max_steps=1)  # derived, and noted as that
    other = _moved(tiny.llama())
    train(other, CoreFreezeCallback(core_mask, base_check="off"), max_steps=1)
    assert _lineage(other) == []
    with pytest.warns(UserWarning, match="found on other weights"):
        train(other, CoreFreezeCallback(core_mask, base_check="warn"), max_steps=1)
    assert _lineage(other) == []
    with pytest.raises(CoreMaskMismatchError, match="found on other weights"):
        bind(other, core_mask)


def test_lineage_with_base_values_is_that_of_the_named_base(
    train: Callable[..., Trainer], tiny: SimpleNamespace
) -> None:
    """The base that gives the core decides, not the weights that it is written into."""
    core_mask = tiny.core_of(tiny.llama())
    model, other = _moved(tiny.llama()), _moved(tiny.llama())
    train(model, CoreFreezeCallback(core_mask, base_values=tiny.llama()), max_steps=1)
    assert _lineage(model) == [core_mask.provenance.base_fingerprint.total]
    train(other, CoreFreezeCallback(core_mask, base_values=_moved(tiny.llama()), base_check="off"), max_steps=1)
    assert _lineage(other) == []


@pytest.mark.parametrize("from_base", [True, False])
@pytest.mark.parametrize("with_base_values", [True, False])
def test_resumed_runs_note_lineage_as_the_first_run_did(
    train: Callable[..., Trainer], tiny: SimpleNamespace, tmp_path: Path, *, from_base: bool, with_base_values: bool
) -> None:
    """Live weights have drifted or are the base's when a run resumes; the saved values remember how it began."""
    core_mask = tiny.core_of(tiny.llama())
    first = tiny.llama() if from_base else _moved(tiny.llama())
    train(first, CoreFreezeCallback(core_mask, base_check="off"), **_saving(2))
    checkpoint = str(tmp_path / "out/checkpoint-2")
    named = {"base_values": tiny.llama()} if with_base_values else {}
    for model in (tiny.llama(), _moved(tiny.llama())):
        callback = CoreFreezeCallback(core_mask, base_check="off", **named)
        train(model, callback, resume=checkpoint, max_steps=4)
        assert _lineage(model) == ([core_mask.provenance.base_fingerprint.total] if from_base else [])


def test_training_twice_with_one_trainer_keeps_the_first_values(
    train: Callable[..., Trainer], tiny: SimpleNamespace
) -> None:
    """A second call of train starts anew from weights whose core is still the first one."""
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    train(model, CoreFreezeCallback(core_mask)).train()
    assert tiny.changed_bits(before, model, core_mask)[0] == 0


def test_the_best_model_at_the_end_has_the_core(train: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    """Loading the best checkpoint brings back the same bits."""
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    trainer = train(
        model,
        CoreFreezeCallback(core_mask),
        load_best_model_at_end=True,
        **_saving(1),
        eval_strategy="steps",
        eval_steps=1,
    )
    assert trainer.state.best_model_checkpoint is not None
    assert tiny.changed_bits(before, model, core_mask)[0] == 0


def test_resuming_keeps_the_core_of_the_first_run(
    train: Callable[..., Trainer], tiny: SimpleNamespace, tmp_path: Path
) -> None:
    """A fresh process that loads the base and resumes gets the same core."""
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    train(model, CoreFreezeCallback(core_mask), **_saving(2))
    resumed = tiny.llama()
    trainer = train(resumed, CoreFreezeCallback(core_mask), resume=str(tmp_path / "out/checkpoint-2"), max_steps=5)
    assert trainer.state.global_step == 5
    core, complement = tiny.changed_bits(before, resumed, core_mask)
    assert core == 0
    assert complement > 0


def test_resuming_puts_an_altered_checkpoint_right(
    train: Callable[..., Trainer], tiny: SimpleNamespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A core that drifted on disk is not believed: the values come from core_values.safetensors."""
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    train(model, CoreFreezeCallback(core_mask), **_saving(2))
    drifted = _alter(tmp_path / "out/checkpoint-2", core_mask)
    resumed = tiny.llama()
    with caplog.at_level(logging.WARNING):
        train(resumed, CoreFreezeCallback(core_mask), resume=str(tmp_path / "out/checkpoint-2"), max_steps=4)
    assert tiny.changed_bits(before, resumed, core_mask)[0] == 0
    assert f"{drifted} core weights of the model differed" in caplog.text


def test_resuming_without_the_saved_values_is_refused(
    train: Callable[..., Trainer], tiny: SimpleNamespace, tmp_path: Path
) -> None:
    """Without the file nobody knows whether the checkpoint has drifted; base_values replaces it."""
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    train(model, CoreFreezeCallback(core_mask), **_saving(2))
    (tmp_path / "out/core_values.safetensors").unlink()
    checkpoint = str(tmp_path / "out/checkpoint-2")
    _alter(tmp_path / "out/checkpoint-2", core_mask)
    with pytest.raises(ConfigurationError, match=r"core_values\.safetensors is missing.*base_values="):
        train(tiny.llama(), CoreFreezeCallback(core_mask), resume=checkpoint, max_steps=4)
    resumed = tiny.llama()
    train(resumed, CoreFreezeCallback(core_mask, base_values=tiny.llama()), resume=checkpoint, max_steps=4)
    assert tiny.changed_bits(before, resumed, core_mask)[0] == 0


def test_resuming_with_another_mask_or_dtype_is_refused(
    train: Callable[..., Trainer], tiny: SimpleNamespace, tmp_path: Path
) -> None:
    """The file knows its mask, and values of another dtype cannot be exact."""
    model = tiny.llama()
    core_mask = tiny.core_of(model)
    train(model, CoreFreezeCallback(core_mask), **_saving(2))
    checkpoint = str(tmp_path / "out/checkpoint-2")
    with pytest.raises(ConfigurationError, match="another core mask"):
        train(tiny.llama(), CoreFreezeCallback(tiny.core_of(tiny.llama(), seed=1)), resume=checkpoint)
    with pytest.raises(ModelChangedError, match=r"saved in torch\.float32"):
        train(tiny.llama(torch.bfloat16), CoreFreezeCallback(core_mask), resume=checkpoint)


def test_a_new_run_replaces_the_values_of_another_mask(
    train: Callable[..., Trainer], tiny: SimpleNamespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that starts anew in the same folder replaces the file, and says so."""
    train(tiny.llama(), CoreFreezeCallback(tiny.core_of(tiny.llama())))
    other = tiny.core_of(tiny.llama(), seed=1)
    with caplog.at_level(logging.WARNING):
        train(tiny.llama(), CoreFreezeCallback(other))
    assert "belongs to another core mask and is replaced" in caplog.text
    saved = load_file(tmp_path / "out/core_values.safetensors")
    assert {name: value.numel() for name, value in saved.items()} == {
        n: other.count(n) for n in other if other.count(n)
    }


def test_base_values_from_a_folder_put_a_drifted_model_right(
    train: Callable[..., Trainer], tiny: SimpleNamespace, tmp_path: Path
) -> None:
    """The base on disk gives the core where the live model has lost it; the check then looks at the base."""
    base = tiny.llama()
    core_mask, before = tiny.core_of(base), tiny.bits_of(base)
    base.save_pretrained(tmp_path / "base")
    model = tiny.llama()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5)
    train(model, CoreFreezeCallback(core_mask, base_values=str(tmp_path / "base")))
    assert tiny.changed_bits(before, model, core_mask)[0] == 0


def test_a_mask_of_other_weights_is_refused_before_the_first_step(
    train: Callable[..., Trainer], tiny: SimpleNamespace
) -> None:
    """base_check decides whether the fingerprint matters."""
    model = tiny.llama()
    core_mask = tiny.core_of(model)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.add_(1)
    with pytest.raises(CoreMaskMismatchError, match="found on other weights"):
        train(model, CoreFreezeCallback(core_mask))
    with pytest.warns(UserWarning, match="found on other weights"):
        train(model, CoreFreezeCallback(core_mask, base_check="warn"))


class Meddle(TrainerCallback):
    """Changes one core weight behind the freeze's back."""

    def __init__(self, core_mask: CoreMask) -> None:
        self.core_mask = core_mask

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: nn.Module, **_: Any) -> None:
        if state.global_step == state.max_steps:
            weight = bind(model, self.core_mask)["model.layers.1.mlp.down_proj.weight"].parameter
            weight.data[self.core_mask["model.layers.1.mlp.down_proj.weight"]] += 1


def test_a_change_from_elsewhere_is_found_and_undone(train: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    """At the end every bit is compared; the error says where, and the model in memory is intact again."""
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    with pytest.raises(ModelChangedError, match=r"layers\.1\.mlp\.down_proj"):
        train(model, CoreFreezeCallback(core_mask), Meddle(core_mask))
    assert tiny.changed_bits(before, model, core_mask)[0] == 0


def test_adapters_are_refused(train: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    """Base weights under an adapter do not train; the message names the adapter that knows the core."""
    peft = pytest.importorskip("peft")
    model = tiny.llama()
    core_mask = tiny.core_of(model)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]))
    for candidate in (wrapped, model):  # the second is the bare model with injected layers
        with pytest.raises(ConfigurationError, match="CoreRegionConfig"):
            train(candidate, CoreFreezeCallback(core_mask))


class FullyShardedDataParallel(nn.Module):
    """Named as FSDP version 1 names its wrapper."""


class DeepSpeedOptimizerWrapper:
    """Named as accelerate names its wrapper; without masters that are linked to parameters."""

    optimizer = SimpleNamespace()


def test_what_cannot_be_exact_is_refused_by_name(tiny: SimpleNamespace, tmp_path: Path) -> None:
    """Every message says what to use instead, and nothing has been written by then."""
    model = tiny.llama()
    callback = CoreFreezeCallback(tiny.core_of(model))
    state = SimpleNamespace(global_step=0, is_world_process_zero=True)
    args = SimpleNamespace(output_dir=str(tmp_path / "out"), fsdp=True, fsdp_plugin_args={"fsdp_version": 1})
    with pytest.raises(UnsupportedModelError, match=r"FSDP version 1.*fsdp_version: 2"):
        callback.on_train_begin(args, state, None, model=model)
    args = SimpleNamespace(output_dir=str(tmp_path / "out"))
    model.flat = FullyShardedDataParallel()
    with pytest.raises(UnsupportedModelError, match="FSDP version 1"):
        callback.on_train_begin(args, state, None, model=model)
    del model.flat
    half = tiny.llama(torch.bfloat16)
    with pytest.raises(UnsupportedModelError, match="ZeRO stage 1, 2 or 3"):
        CoreFreezeCallback(tiny.core_of(half)).on_train_begin(
            args, state, None, model=half, optimizer=DeepSpeedOptimizerWrapper()
        )
    with pytest.raises(UnsupportedModelError, match="mask_gradients cannot reach"):
        CoreFreezeCallback(tiny.core_of(model), mask_gradients=True).on_train_begin(
            SimpleNamespace(output_dir=str(tmp_path / "zero")),
            state,
            None,
            model=model,
            optimizer=DeepSpeedOptimizerWrapper(),
        )
    assert not (tmp_path / "out").exists()
    model.is_quantized = True
    with pytest.raises(UnsupportedModelError, match="quantised"):
        callback.on_train_begin(args, state, None, model=model)


def test_a_callback_that_comes_too_late_says_so(tiny: SimpleNamespace) -> None:
    """Nothing was frozen, so nothing may look as if it had been."""
    callback = CoreFreezeCallback(tiny.core_of(tiny.llama()))
    with pytest.raises(ConfigurationError, match="while training was running"):
        callback.on_optimizer_step(None, None, None)


def test_the_callback_takes_a_folder_and_checks_its_options(tiny: SimpleNamespace, tmp_path: Path) -> None:
    """A saved mask may be named; base_check has three values."""
    core_mask = tiny.core_of(tiny.llama())
    core_mask.save_pretrained(tmp_path / "core")
    assert CoreFreezeCallback(tmp_path / "core").core_mask == core_mask
    with pytest.raises(InputError, match="base_check"):
        CoreFreezeCallback(core_mask, base_check="maybe")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_bit_pattern_comes_back(dtype: torch.dtype) -> None:
    """NaN payloads, signalling NaN, -0.0 and subnormals are bits like any other."""
    view = {4: torch.int32, 2: torch.int16}[torch.empty(0, dtype=dtype).element_size()]
    limits = torch.iinfo(view)
    patterns = [0, limits.min, limits.max, -1, 1, limits.min + 1]
    patterns += [0x7F800001, -8388607] if view is torch.int32 else [0x7F81, 0x7C01, -127]
    values = torch.tensor(patterns, dtype=view).view(dtype)
    weight = nn.Parameter(values.clone())
    core = CoreMask({"w": torch.ones(len(patterns), dtype=torch.bool)})
    freezer = CoreFreezer({"w": Weight("w", weight, nn.Module())}, core)
    weight.data.fill_(1.5)
    assert freezer.changed() == {"w": len(patterns)}
    freezer.restore()
    assert weight.detach().view(view).tolist() == patterns
    assert freezer.changed() == {}
    weight.data.fill_(1.5)
    CoreFreezer({"w": Weight("w", weight, nn.Module())}, core, values=freezer.values()).restore()
    assert weight.detach().view(view).tolist() == patterns


def test_the_state_is_small(tiny: SimpleNamespace) -> None:
    """Four bytes of index and the value for each core weight, and nothing for the others."""
    model = tiny.llama(torch.bfloat16)
    core_mask = tiny.core_of(model)
    assert CoreFreezer(bind(model, core_mask), core_mask).nbytes() == core_mask.count() * (4 + 2)


def test_values_must_fit(tiny: SimpleNamespace) -> None:
    """Too few values, or those of another tensor, are not written anywhere."""
    model = tiny.llama()
    core_mask = tiny.core_of(model)
    weights = bind(model, core_mask)
    values = CoreFreezer(weights, core_mask).values()
    name = next(iter(values))
    with pytest.raises(ModelChangedError, match="do not fit the mask"):
        CoreFreezer(weights, core_mask, values={**values, name: values[name][1:]})
    with pytest.raises(ModelChangedError, match="got none"):
        CoreFreezer(weights, core_mask, values={})


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (nn.Parameter(torch.randn(2, 3).t()), "not contiguous"),
        (nn.Parameter(torch.empty(3, 2, device="meta")), "meta"),
        (nn.Parameter(torch.ones(3, 2, dtype=torch.int8), requires_grad=False), "quantised"),
    ],
    ids=["strided", "meta", "int8"],
)
def test_parameters_without_whole_values_are_refused(weight: nn.Parameter, message: str) -> None:
    """A strided view, a placeholder or quantised bytes are named, with what to do."""
    core = CoreMask({"w": torch.ones(3, 2, dtype=torch.bool)})
    with pytest.raises(UnsupportedModelError, match=message):
        CoreFreezer({"w": Weight("w", weight, nn.Module())}, core)


def test_the_freeze_needs_no_trl() -> None:
    """With TRL missing the freeze imports, and the trainer says which extra brings it."""
    code = (
        "import sys; sys.modules['trl'] = None\n"
        "import hf_langcore.training as training\n"
        "from hf_langcore.errors import MissingExtraError\n"
        "assert training.CoreFreezeCallback\n"
        "try: training.CoreRegionSFTTrainer\n"
        "except MissingExtraError as error: assert 'hf_langcore[train]' in str(error)\n"
        "else: raise AssertionError\n"
        "assert not hasattr(training, 'nothing')\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=Path(__file__).parents[2])


def _saving(steps: int) -> dict[str, Any]:
    return {"save_strategy": "steps", "save_steps": steps}


def _alter(checkpoint: Path, core_mask: CoreMask) -> int:
    """Change every core weight of a checkpoint on disk; returns how many."""
    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    for name in core_mask:
        tensors[name] = torch.where(core_mask[name], tensors[name] + 1, tensors[name])
    save_file(tensors, path, metadata={"format": "pt"})
    assert json.loads((checkpoint / "trainer_state.json").read_text())["global_step"] == 2
    return core_mask.count()
