"""The freeze: after every optimizer step the core is written back, bit for bit.

Masking gradients is not enough. Weight decay, momentum from earlier steps, Muon and 8-bit optimizers move a
weight whose gradient is zero. So the values of the core are kept in a compact form, four bytes of index and the
value itself for each core weight, and written back after the update.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn
from transformers import AutoModelForCausalLM, TrainerCallback

from hf_langcore.architecture import Weight, bare_weights, require_editable
from hf_langcore.binding import BaseCheck, bind, fits_base, record_lineage
from hf_langcore.errors import ConfigurationError, InputError, ModelChangedError, UnsupportedModelError
from hf_langcore.masks import CoreMask, bits_of
from hf_langcore.training.core_values import began_from_base, read_core_values, write_core_values

_INT32_LIMIT = 2**31

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Frozen:
    """The core of one parameter: where it is, and its bits, as integers so that NaN and -0.0 stay what they are."""

    parameter: nn.Parameter
    index: torch.Tensor
    bits: torch.Tensor

    @classmethod
    def of(cls, weight: Weight, core: torch.Tensor, values: torch.Tensor | None) -> _Frozen:
        parameter = weight.parameter
        index = core.reshape(-1).nonzero().reshape(-1)
        if parameter.numel() < _INT32_LIMIT:
            index = index.to(torch.int32)
        index = index.to(parameter.device)
        if values is None:
            return cls(parameter, index, _flat_bits(parameter)[index])
        return cls(parameter, index, bits_of(values.to(parameter.device)))

    def changed(self) -> int:
        """How many core weights differ from the saved ones in any bit."""
        return int((_flat_bits(self.parameter)[self.index] != self.bits).sum())

    def restore(self) -> None:
        _flat_bits(self.parameter).index_put_((self.index,), self.bits)


class CoreFreezer:
    """Keeps the core of live parameters at saved values.

    Example:
        >>> weight = nn.Linear(2, 2, bias=False).weight
        >>> core = CoreMask({"w": torch.tensor([[True, False], [False, False]])})
        >>> freezer = CoreFreezer({"w": Weight("w", weight, nn.Module())}, core)
        >>> _ = weight.data.add_(1)
        >>> freezer.changed(), freezer.restore(), freezer.changed()
        ({'w': 1}, None, {})

    Args:
        weights: Parameter name -> weight, as `hf_langcore.binding.bind` returns them.
        core_mask: What is kept.
        values: Parameter name -> values of its core weights in storage order; the live ones if None.

    Raises:
        UnsupportedModelError: A parameter is sharded, quantised, without values or not contiguous.
        ModelChangedError: `values` do not fit the parameters in number or dtype.
    """

    def __init__(
        self,
        weights: Mapping[str, Weight],
        core_mask: CoreMask,
        *,
        values: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self._frozen: dict[str, _Frozen] = {}
        for name, weight in weights.items():
            _require_whole(weight)
            if core_mask.count(name):
                given = None if values is None else _fitting(weight, values.get(name), core_mask.count(name))
                self._frozen[name] = _Frozen.of(weight, core_mask[name], given)

    def restore(self) -> None:
        """Write the saved values back."""
        for frozen in self._frozen.values():
            frozen.restore()

    def changed(self) -> dict[str, int]:
        """Parameter name -> number of core weights that differ from the saved ones in any bit, where there are any."""
        counts = {name: frozen.changed() for name, frozen in self._frozen.items()}
        return {name: count for name, count in counts.items() if count}

    def values(self) -> dict[str, torch.Tensor]:
        """Parameter name -> the saved values of its core weights, in storage order."""
        return {name: frozen.bits.view(frozen.parameter.dtype) for name, frozen in self._frozen.items()}

    def nbytes(self) -> int:
        """Bytes that the saved indices and values take."""
        return sum(frozen.index.nbytes + frozen.bits.nbytes for frozen in self._frozen.values())


class CoreFreezeCallback(TrainerCallback):  # type: ignore[misc]
    """Full fine-tuning of everything but the core, in any transformers Trainer.

    When training begins the mask is checked against the model and the core's values are saved, also to
    `core_values.safetensors` in the output folder. They are written back after every optimizer step. At the end
    every bit is compared. Optimizer, weight decay, clipping and accumulation may be anything.

    When training resumes from a checkpoint, the values come from that file and not from the checkpoint. A new run
    replaces the file of an earlier one in the same output folder, with a warning if it was of another mask.

    A run that begins from the mask's base notes that in the model's config, so that the mask keeps fitting what
    is saved. With `base_check` "warn" or "off" a run on other weights notes nothing, and neither does its resumption.

    Args:
        core_mask: The core, or the folder of a saved one.
        base_check: "error", "warn" or "off": what to do when the weights are not those that the mask was found on.
        base_values: Take the core's values from this model, or from a checkpoint that transformers can load,
            instead of from the live weights and instead of from the file; `base_check` then looks at it.

    Raises:
        InputError: `base_check` is none of the three.
        ConfigurationError: When training begins: the model has adapters, or it resumes and the saved values are
            missing, damaged or of another mask.
        CoreMaskMismatchError: When training begins: the mask does not fit the model.
        UnsupportedModelError: When training begins: parameters are sharded or quantised.
        ModelChangedError: The run resumes in another dtype; or, at the end, something else has changed the core,
            which has been written back by then.
    """

    def __init__(
        self,
        core_mask: CoreMask | str | Path,
        *,
        base_check: str = "error",
        base_values: nn.Module | str | Path | None = None,
    ) -> None:
        if base_check not in get_args(BaseCheck):
            raise InputError(f"base_check must be one of {list(get_args(BaseCheck))}, got {base_check!r}.")
        self.core_mask = core_mask if isinstance(core_mask, CoreMask) else CoreMask.from_pretrained(core_mask)
        self.freezer: CoreFreezer | None = None
        self._base_check = base_check
        self._base_values = base_values

    def on_train_begin(
        self,
        args: Any,
        state: Any,
        control: Any,  # noqa: ARG002 the Trainer passes it
        *,
        model: nn.Module,
        **_: Any,
    ) -> None:
        """Check the mask, save the core's values and write them back once."""
        require_plain_training(model, args)
        folder = Path(args.output_dir)
        resuming = state.global_step > 0
        self.freezer, from_base = self._build(model, folder, resuming=resuming)
        if from_base:
            record_lineage(model, self.core_mask)
        drifted = sum(self.freezer.changed().values())
        if drifted:
            logger.warning("%d core weights of the model differed from the saved ones and were put right.", drifted)
            self.freezer.restore()
        if state.is_world_process_zero and not resuming:
            write_core_values(folder, self.freezer.values(), digest=self.core_mask.digest(), from_base=from_base)

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Undo what the update did to the core."""
        self._running().restore()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Compare every bit of the core with the saved one."""
        freezer = self._running()
        changed = freezer.changed()
        if changed:
            freezer.restore()
            raise ModelChangedError(
                f"Something other than the optimizer changed {sum(changed.values()):,} core weights in {len(changed)} "
                f"tensors, the first is {next(iter(changed))!r}: another callback, or a best checkpoint that was "
                "altered on disk. The core has been written back in memory, so trainer.save_model() now saves it "
                "intact, but checkpoints of this run may not be."
            )

    def _build(self, model: nn.Module, folder: Path, *, resuming: bool) -> tuple[CoreFreezer, bool]:
        """The freezer, and whether the run began from the mask's base."""
        mask = self.core_mask
        if self._base_values is not None:
            given = self._base_values
            base = given if isinstance(given, nn.Module) else AutoModelForCausalLM.from_pretrained(given, dtype="auto")
            weights = bind(model, mask, base_check="off")
            values = _values_of(base, weights, mask, base_check=self._base_check)
            noted = began_from_base(folder, digest=mask.digest()) if resuming else None
            return CoreFreezer(weights, mask, values=values), fits_base(base, mask) if noted is None else noted
        if resuming:  # the complement is trained, so its fingerprint says nothing; the file knows its mask
            weights = bind(model, mask, base_check="off")
            began = read_core_values(folder, digest=mask.digest())
            return CoreFreezer(weights, mask, values=began.values), began.from_base
        weights = bind(model, mask, base_check=self._base_check)
        return CoreFreezer(weights, mask), fits_base(model, mask)

    def _running(self) -> CoreFreezer:
        if self.freezer is None:
            raise ConfigurationError(
                "CoreFreezeCallback was added while training was running, so nothing was frozen. Pass it in "
                "Trainer(callbacks=[...]) or call trainer.add_callback before trainer.train."
            )
        return self.freezer


def _flat_bits(parameter: nn.Parameter) -> torch.Tensor:
    """The parameter's own storage as a vector of integers."""
    return bits_of(parameter).view(-1)


def _fitting(weight: Weight, values: torch.Tensor | None, count: int) -> torch.Tensor:
    if values is None or values.numel() != count:
        raise ModelChangedError(
            f"The saved core values do not fit the mask: {count} of {weight.name!r} were expected, got "
            f"{'none' if values is None else values.numel()}. Use the file that the run itself has written."
        )
    if values.dtype != weight.parameter.dtype:
        raise ModelChangedError(
            f"The core was saved in {values.dtype} and {weight.name!r} is now {weight.parameter.dtype}, so it cannot "
            "be kept bit for bit. Load the model in the dtype that the run began with."
        )
    return values.reshape(-1)


def _values_of(
    base: nn.Module, weights: Mapping[str, Weight], core_mask: CoreMask, *, base_check: str
) -> dict[str, torch.Tensor]:
    """The base's core values in the dtypes of `weights`, rounded as loading in that dtype would round them."""
    values = CoreFreezer(bind(base, core_mask, base_check=base_check), core_mask).values()
    return {name: value.to(weights[name].parameter.dtype) for name, value in values.items()}


def _require_whole(weight: Weight) -> None:
    """Refuse parameters of which this process has only a part, or no plain values."""
    _require_unsharded(weight)
    require_editable(weight)
    if not weight.parameter.is_contiguous():
        raise UnsupportedModelError(
            f"{weight.name!r} is not contiguous in memory. Call `parameter.data = parameter.data.contiguous()` first."
        )


def _require_unsharded(weight: Weight) -> None:
    """DeepSpeed marks its parameters with `ds_id`; DTensors, of FSDP2 and tensor parallelism, have placements."""
    if hasattr(weight.parameter, "ds_id") or hasattr(weight.parameter, "placements"):
        raise UnsupportedModelError(
            f"{weight.name!r} is sharded over processes, and the freeze writes to whole parameters. Train on one "
            "device or with plain data parallelism (DDP), or use an adapter (CoreRegionConfig), whose base weights "
            "never change."
        )


def require_plain_training(model: nn.Module, args: Any) -> None:
    """Refuse models and arguments with which whole parameters are not what gets trained.

    Raises:
        ConfigurationError: The model has adapters.
        UnsupportedModelError: DeepSpeed, FSDP or quantised weights.
    """
    if _has_adapters(model):
        raise ConfigurationError(
            "The model has PEFT adapters, whose base weights are not trained, so there is nothing to freeze. Use "
            "CoreRegionConfig as the adapter to keep the core out of it, or pass the bare model for full fine-tuning."
        )
    for name, used in (("DeepSpeed", getattr(args, "deepspeed", None)), ("FSDP", getattr(args, "fsdp", None))):
        if used:
            raise UnsupportedModelError(
                f"{name} shards weights or keeps second copies of them, which this freeze does not reach. Train on one "
                "device or with plain data parallelism (DDP), or use an adapter (CoreRegionConfig)."
            )
    for weight in bare_weights(model).values():
        _require_unsharded(weight)  # before the mask is bound, which would read the shards
    if getattr(model, "is_quantized", False):
        raise UnsupportedModelError(
            "The model is quantised, so single weights cannot be kept bit for bit. Load it without a "
            "quantization_config, or use an adapter (CoreRegionConfig)."
        )


def _has_adapters(model: nn.Module) -> bool:
    if getattr(model, "peft_config", None) is not None:
        return True
    owners = {id(weight.owner) for weight in bare_weights(model).values()}
    return any(id(getattr(module, "base_layer", None)) in owners for module in model.modules())
