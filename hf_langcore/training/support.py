"""What can be trained in place: checked before the first step, each refusal by name."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from torch import nn
from transformers.trainer_utils import get_last_checkpoint

from hf_langcore.architecture import bare_weights
from hf_langcore.errors import ConfigurationError, UnsupportedModelError

logger = logging.getLogger(__name__)


def require_trainable(model: nn.Module, args: Any = None) -> None:
    """Refuse models and strategies with which single weights cannot be held or written back.

    Args:
        model: The model, before or after a distributed strategy has prepared it.
        args: TrainingArguments, where there are any.

    Raises:
        ConfigurationError: The model has adapters.
        UnsupportedModelError: Quantised weights, FSDP 1, tensor parallelism over several FSDP meshes, or DeepSpeed
            without float32 masters that can be reached.
    """
    if _has_adapters(model):
        raise ConfigurationError(
            "The model has PEFT adapters, whose base weights are not trained, so there is nothing to freeze. Use "
            "CoreRegionConfig as the adapter to keep the core out of it, or pass the bare model for full fine-tuning."
        )
    if getattr(model, "is_quantized", False):
        raise UnsupportedModelError(
            "The model is quantised, so single weights cannot be kept bit for bit. Load it without a "
            "quantization_config, or use an adapter (CoreRegionConfig)."
        )
    require_fsdp2(model, args)


def last_checkpoint(output_dir: str) -> str:
    """The last checkpoint in an output folder, for `resume_from_checkpoint=True`.

    Raises:
        ConfigurationError: There is none.
    """
    found = get_last_checkpoint(output_dir) if Path(output_dir).is_dir() else None
    if found is None:
        raise ConfigurationError(
            f"Training is to resume from the last checkpoint, but there is none in {output_dir!r}. Name a checkpoint folder, "
            'or start without resume_from_checkpoint; checkpoints are kept with save_strategy="steps" or "epoch".'
        )
    return str(found)


def require_strategy(model: nn.Module, optimizer: Any) -> None:
    """The part that can only be seen once accelerate has prepared model and optimizer.

    Raises:
        UnsupportedModelError: DeepSpeed keeps float32 masters that cannot be reached.
    """
    if is_deepspeed(optimizer):
        _require_masters(model, optimizer)
    wants_fsdp = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in {"true", "1"}
    parameters = [weight.parameter for weight in bare_weights(model).values()]
    if wants_fsdp and not any(hasattr(parameter, "placements") for parameter in parameters):
        logger.warning(
            "FSDP was asked for, but no parameter is sharded: accelerate runs plain data parallelism (DDP) instead, as it "
            "does on CPUs. The core is kept all the same; memory is not saved."
        )


def is_deepspeed(optimizer: Any) -> bool:
    """Whether DeepSpeed steps the weights; accelerate's wrapper of its optimizer tells, without importing it."""
    return type(optimizer).__name__ == "DeepSpeedOptimizerWrapper"


def require_fsdp2(model: nn.Module, args: Any) -> None:
    """Refuse FSDP version 1, which flattens parameters.

    Args:
        model: The model, before or after FSDP has wrapped it.
        args: TrainingArguments, where there are any.

    Raises:
        UnsupportedModelError: Version 1 is asked for, or has wrapped the model.
    """
    plugin = getattr(args, "fsdp_plugin_args", None) or {}
    is_asked = bool(getattr(args, "fsdp", None)) and str(plugin.get("fsdp_version", 2)) == "1"
    is_flat = any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules())
    if is_asked or is_flat:
        raise UnsupportedModelError(
            "FSDP version 1 flattens parameters, so that single weights cannot be told apart. Use FSDP2: "
            "`fsdp_version: 2` in accelerate's configuration file, or the fsdp2 one that hf_langcore ships."
        )


def _require_masters(model: nn.Module, optimizer: Any) -> None:
    """ZeRO links each parameter to its float32 master; DeepSpeed's plain fp16 optimizer does not."""
    inner = getattr(optimizer, "optimizer", optimizer)
    weights = bare_weights(model).values()
    # Under ZeRO a parameter without a link is one that the optimizer was not given, so that nothing steps it.
    is_linked = any(hasattr(weight.parameter, "_hp_mapping") for weight in weights)
    low = [
        weight
        for weight in weights
        if weight.parameter.requires_grad
        and weight.parameter.dtype.itemsize < 4  # noqa: PLR2004 float32
        and not hasattr(weight.parameter, "_hp_mapping")
        and not hasattr(weight.parameter, "ds_id")
    ]
    if low and not is_linked:
        raise UnsupportedModelError(
            f"DeepSpeed's {type(inner).__name__} steps float32 copies of the weights that cannot be reached from "
            f"{low[0].name!r}. Use ZeRO stage 1, 2 or 3 (zero_stage in accelerate's configuration file)."
        )


def _has_adapters(model: nn.Module) -> bool:
    if getattr(model, "peft_config", None) is not None:
        return True
    owners = {id(weight.owner) for weight in bare_weights(model).values()}
    return any(id(getattr(module, "base_layer", None)) in owners for module in model.modules())
