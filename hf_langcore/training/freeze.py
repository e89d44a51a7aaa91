"""The freeze: after every optimizer step the core is written back, bit for bit.

Masking gradients is not enough. Weight decay, momentum from earlier steps, Muon and 8-bit optimizers move a
weight whose gradient is zero. So the values of the core are kept in a compact form, four bytes of index and the
value itself for each core weight, and written back after the update.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn
from transformers import TrainerCallback

from hf_langcore.architecture import Weight, bare_weights
from hf_langcore.auto import auto_class_for
from hf_langcore.binding import BaseCheck, bind, fits_base, record_lineage
from hf_langcore.errors import ConfigurationError, InputError, ModelChangedError, UnsupportedModelError
from hf_langcore.hub.trainer_cards import CardNote, CardNotes
from hf_langcore.masks import CoreMask, bits_of
from hf_langcore.training.core_values import began_from_base, read_core_values, write_core_values
from hf_langcore.training.freezer import CoreFreezer
from hf_langcore.training.holdings import holdings, local_part, reshard, whole_value
from hf_langcore.training.support import is_deepspeed, require_strategy, require_trainable

# Where optimizers keep a second copy of the weights, from which they make the first: schedule-free's z.
_COPIES_IN_STATE = ("z",)

logger = logging.getLogger(__name__)


class CoreFreezeCallback(CardNotes, TrainerCallback):  # type: ignore[misc]
    """Full fine-tuning of everything but the core, in any transformers Trainer.

    When training begins the mask is checked against the model and the core's values are saved, also to
    `core_values.safetensors` in the output folder. They are written back after every optimizer step. At the end
    every bit is compared. Optimizer, weight decay, clipping and accumulation may be anything; weights may be whole
    (one device, DDP) or sharded (FSDP2, DeepSpeed ZeRO, whose float32 masters are restored, too).

    When training resumes from a checkpoint, the values come from that file and not from the checkpoint. A new run
    replaces the file of an earlier one in the same output folder, with a warning if it was of another mask.

    A run that begins from the mask's base notes that in the model's config, so that the mask keeps fitting what
    is saved. With `base_check` "warn" or "off" a run on other weights notes nothing, and neither does its resumption.

    Args:
        core_mask: The core, or the folder or Hub repository of one.
        base_check: "error", "warn" or "off": what to do when the weights are not those that the mask was found on.
        base_values: Take the core's values from this model, or from a checkpoint that transformers can load,
            instead of from the live weights and instead of from the file; `base_check` then looks at it.
        mask_gradients: Also zero the core's gradients, before they are clipped: the norm that clipping looks at, and
            what Muon and Adafactor make of whole matrices, then know nothing of the core. Not with DeepSpeed.
        averages: Other models that hold moving averages of this one: their core is written back, too, after each
            step, because averaging equal numbers rounds.

    Raises:
        InputError: `base_check` is none of the three.
        ConfigurationError: When training begins: the model has adapters, or it resumes and the saved values are
            missing, damaged or of another mask.
        CoreMaskMismatchError: When training begins: the mask does not fit the model.
        UnsupportedModelError: When training begins: parameters are quantised, or held in a form that cannot be
            written to (FSDP 1).
        ModelChangedError: The run resumes in another dtype; or, at the end, something else has changed the core,
            which has been written back by then.
    """

    def __init__(
        self,
        core_mask: CoreMask | str | Path,
        *,
        base_check: str = "error",
        base_values: nn.Module | str | Path | None = None,
        mask_gradients: bool = False,
        averages: Iterable[nn.Module] = (),
    ) -> None:
        if base_check not in get_args(BaseCheck):
            raise InputError(f"base_check must be one of {list(get_args(BaseCheck))}, got {base_check!r}.")
        self.core_mask = core_mask if isinstance(core_mask, CoreMask) else CoreMask.from_pretrained(core_mask)
        self.freezer: CoreFreezer | None = None
        self._base_check = base_check
        self._base_values = base_values
        self._mask_gradients = mask_gradients
        self._averages = tuple(averages)
        self._hooks: list[Any] = []
        self._copies = _Copies({})

    def on_train_begin(
        self,
        args: Any,
        state: Any,
        control: Any,  # noqa: ARG002 the Trainer passes it
        *,
        model: nn.Module,
        optimizer: Any = None,
        **_: Any,
    ) -> None:
        """Check the mask, save the core's values and write them back once."""
        require_trainable(model, args)
        require_strategy(model, optimizer)
        if self._mask_gradients:
            _require_reachable_gradients(optimizer)
        reshard(model)
        folder = Path(args.output_dir)
        resuming = state.global_step > 0
        self.freezer, from_base = self._build(model, folder, resuming=resuming)
        if from_base:
            record_lineage(model, self.core_mask)
        drifted = sum(self.freezer.changed().values())
        if drifted:
            logger.warning("%d core weights of the model differed from the saved ones and were put right.", drifted)
        self.freezer.restore()
        if not resuming:
            values = self.freezer.values()
            if state.is_world_process_zero:
                write_core_values(folder, values, digest=self.core_mask.digest(), from_base=from_base)
        self.remember_in(model)
        self._copies = _Copies.of(self.core_mask, bare_weights(model), optimizer)
        self._hooks = self.freezer.mask_gradients() if self._mask_gradients else []

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Undo what the update did to the core."""
        self._running().restore()
        self._copies.restore()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Undo what averaging did to the core of the averages."""
        for average in self._averages:
            self._running().restore_into(bare_weights(average))

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """Undo what a schedule-free optimizer did when it changed to its average and back."""
        if self.freezer is not None:
            self.freezer.restore()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Compare every bit of the core with the saved one."""
        freezer = self._running()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        changed = freezer.changed()
        if changed:
            freezer.restore()
            raise ModelChangedError(
                f"Something other than the optimizer changed {sum(changed.values()):,} core weights in {len(changed)} "
                f"tensors, the first is {next(iter(changed))!r}: another callback, or a best checkpoint that was "
                "altered on disk. The core has been written back in memory, so trainer.save_model() now saves it "
                "intact, but checkpoints of this run may not be."
            )

    def card_note(self) -> CardNote:
        """What the model's card says of this."""
        return CardNote(self.core_mask, is_base_checked=self._base_check == "error")

    def _build(self, model: nn.Module, folder: Path, *, resuming: bool) -> tuple[CoreFreezer, bool]:
        """The freezer, and whether the run began from the mask's base."""
        mask = self.core_mask
        if self._base_values is not None:
            given = self._base_values
            base = (
                given if isinstance(given, nn.Module) else auto_class_for(given).from_pretrained(given, dtype="auto")
            )
            weights = bind(model, mask, base_check="off")
            values = _values_of(base, weights, mask, base_check=self._base_check)
            noted = began_from_base(folder, digest=mask.digest()) if resuming else None
            return CoreFreezer(weights, mask, values=values), fits_base(base, mask) if noted is None else noted
        if resuming:  # the complement is trained, so its fingerprint says nothing; the file knows its mask
            weights = bind(model, mask, base_check="off")
            began = read_core_values(folder, digest=mask.digest())
            return CoreFreezer(weights, mask, values=began.values), began.from_base
        weights = bind(model, mask, base_check=self._base_check, value_of=_whole)
        # With "error" it fits, or binding would have refused; asking again would gather sharded weights once more.
        from_base = self._base_check == "error" or fits_base(model, mask, value_of=_whole)
        return CoreFreezer(weights, mask), from_base

    def _running(self) -> CoreFreezer:
        if self.freezer is None:
            raise ConfigurationError(
                "CoreFreezeCallback was added while training was running, so nothing was frozen. Pass it in "
                "Trainer(callbacks=[...]) or call trainer.add_callback before trainer.train."
            )
        return self.freezer


class _Copies:
    """Second copies of the weights in an optimizer's state, whose core has to be that of the weights."""

    def __init__(self, cores: Mapping[nn.Parameter, torch.Tensor], optimizer: Any = None) -> None:
        self._cores = cores
        self._state = getattr(optimizer, "state", {})

    @classmethod
    def of(cls, core_mask: CoreMask, weights: Mapping[str, Weight], optimizer: Any) -> _Copies:
        """Nothing, unless the optimizer is one that keeps a copy."""
        kind = type(getattr(optimizer, "optimizer", optimizer)).__module__
        if not kind.startswith("schedulefree"):
            return cls({})
        parameters = {name: weights[name].parameter for name in core_mask if core_mask.count(name)}
        parts = {one: holdings(name, one)[0].part_of(core_mask[name]) for name, one in parameters.items()}
        cores = {one: part.nonzero().reshape(-1) for one, part in parts.items()}
        return cls(cores, optimizer)

    def restore(self) -> None:
        for parameter, index in self._cores.items():
            state = self._state.get(parameter, {})
            for copy in (state[key] for key in _COPIES_IN_STATE if key in state):
                here = index.to(copy.device)
                values = local_part(parameter).to(copy.dtype)
                bits_of(local_part(copy)).view(-1)[here] = bits_of(values).view(-1)[here]


def _require_reachable_gradients(optimizer: Any) -> None:
    if is_deepspeed(optimizer):
        raise UnsupportedModelError(
            "mask_gradients cannot reach DeepSpeed's gradients, which are reduced into its own buffers. Leave it out: "
            "the core is kept without it."
        )


def _whole(weight: Weight) -> torch.Tensor:
    return whole_value(weight.parameter)


def _values_of(
    base: nn.Module, weights: Mapping[str, Weight], core_mask: CoreMask, *, base_check: str
) -> dict[str, torch.Tensor]:
    """The base's core values in the dtypes of `weights`, rounded as loading in that dtype would round them."""
    values = CoreFreezer(bind(base, core_mask, base_check=base_check), core_mask).values()
    return {name: value.to(weights[name].parameter.dtype) for name, value in values.items()}
