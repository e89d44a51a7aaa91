"""The options of `langcore sft` and its YAML file as one CoreRegionSFTConfig."""

from __future__ import annotations

import math
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hf_langcore.errors import ConfigurationError


def training_config(options: dict[str, Any], config: Path | None, *, dtype: str, core_mask: Path | None) -> Any:
    """A CoreRegionSFTConfig of the options and of the YAML file, whose fields win.

    Args:
        options: Field -> value.
        config: The YAML file, if there is one.
        dtype: The value of --dtype.
        core_mask: The value of --core-mask.

    Raises:
        ConfigurationError: The file is unreadable, contradicts an option, or has a wrong field or value.
    """
    from transformers import HfArgumentParser

    from hf_langcore.training import CoreRegionSFTConfig

    fields = _yaml(config)
    if "output_dir" in fields:
        raise ConfigurationError("--config: output_dir cannot stand in the file. Use --output for the folder.")
    if core_mask is not None and fields.get("core_mask") is not None:
        raise ConfigurationError("The file of --config names a core_mask, and --core-mask another. Give one of them.")
    kinds = get_type_hints(CoreRegionSFTConfig)
    fields = {name: _number(name, value, kinds.get(name)) for name, value in fields.items()}
    try:
        (made,) = HfArgumentParser(CoreRegionSFTConfig).parse_dict({**options, **_on_this_machine(dtype), **fields})
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigurationError(f"The training options are wrong: {error}") from error
    return made


def _number(name: str, value: Any, kind: Any) -> Any:
    """The value as a number where the field is one: YAML reads 1e-4, without a point, as text."""
    kinds = set(get_args(kind) if get_origin(kind) in {Union, UnionType} else (kind,)) - {NoneType}
    if value is None or not kinds <= {int, float} or type(value) in {int, *kinds}:
        return value
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError):
        number = math.nan
    if not math.isfinite(number) or (float not in kinds and not number.is_integer()):
        wanted = "a number" if float in kinds else "a whole number"
        raise ConfigurationError(f"--config: {name} must be {wanted}, got {value!r}.")
    return number if float in kinds else int(number)


def _on_this_machine(dtype: str) -> dict[str, Any]:
    """TRL switches bf16 and activation checkpointing on; without a GPU both only cost time."""
    import torch

    has_gpu = torch.cuda.is_available()
    return {"use_cpu": not has_gpu, "bf16": has_gpu and dtype != "float16", "activation_checkpointing": has_gpu}


def _yaml(config: Path | None) -> dict[str, Any]:
    if config is None:
        return {}
    import yaml

    try:
        fields = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"--config: {str(config)!r} is no readable YAML file ({error}).") from error
    if not isinstance(fields, dict):
        raise ConfigurationError(
            f"--config: {str(config)!r} must map field names to values, such as `max_steps: 100`."
        )
    return fields
