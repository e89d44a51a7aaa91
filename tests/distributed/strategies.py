"""Which strategy really runs, and the patches that let CPUs run what accelerate keeps for accelerators."""

from __future__ import annotations

from typing import Any

import accelerate.state
import torch
from accelerate.utils import DistributedType
from torch import nn

from hf_langcore.architecture import bare_weights


def force_fsdp2_on_cpu() -> None:
    """Without this accelerate runs plain DDP wherever FSDP2 is asked for on CPUs, and says nothing."""
    original = accelerate.state.AcceleratorState.__init__

    def patched(state: Any, *args: Any, fsdp_plugin: Any = None, **options: Any) -> None:
        original(state, *args, fsdp_plugin=fsdp_plugin, **options)
        if fsdp_plugin is not None:
            state.distributed_type = DistributedType.FSDP
            # States that are asked for later begin with what is noted here.
            accelerate.state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            state.fsdp_plugin = fsdp_plugin
            if state._mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(state._mixed_precision)

    accelerate.state.AcceleratorState.__init__ = patched


def enable_fp16_on_cpu(trainer: Any) -> None:
    """Turn float16 autocast and loss scaling on, which accelerate leaves out on CPUs without a word."""
    trainer.accelerator.native_amp = True
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)


def strategy_of(model: nn.Module) -> str:
    """Read off the parameters: "zero3", "zero2", "fsdp2" or "whole"; "mixed" where they differ."""
    reshard(model)
    kinds = {_kind(weight.parameter) for weight in bare_weights(model).values()}
    return kinds.pop() if len(kinds) == 1 else f"mixed: {sorted(kinds)}"


def reshard(model: nn.Module) -> None:
    """After an evaluation FSDP2 leaves the head gathered, in the dtype of the computation."""
    for module in model.modules():
        if type(module).__name__.startswith("FSDP") and hasattr(module, "reshard"):
            module.reshard()


def _kind(parameter: nn.Parameter) -> str:
    if hasattr(parameter, "ds_id"):
        return "zero3"
    if hasattr(parameter, "_hp_mapping"):
        return "zero2"
    if type(parameter.data).__name__ == "DTensor" and parameter.to_local().numel() < parameter.numel():
        return "fsdp2"
    return "whole"
