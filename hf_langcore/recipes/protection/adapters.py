"""Adapters of any PEFT method: made from a config or a mapping, and what is left of them after training."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

import peft
from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from hf_langcore.errors import ConfigurationError
from hf_langcore.masks import CoreMask
from hf_langcore.tuner import CoreRegionConfig

Adapter: TypeAlias = "PeftConfig | Mapping[str, Any]"

_TASK = "CAUSAL_LM"
_CANNOT_MERGE = (NotImplementedError, AttributeError, RuntimeError, TypeError, ValueError)


def adapter_config(adapter: Adapter, core: Callable[[], CoreMask]) -> PeftConfig:
    """A config of its own for one run: PEFT writes into those that it is given.

    Args:
        adapter: A config, or its fields as a mapping with `peft_type`, such as {"peft_type": "IA3"}.
        core: Gives the core that a CORE_REGION adapter protects if it names none.

    Raises:
        ConfigurationError: PEFT knows no such method, or the method no such option.
    """
    config = copy.deepcopy(adapter) if isinstance(adapter, PeftConfig) else _from_mapping(adapter)
    config.task_type = config.task_type or _TASK
    if isinstance(config, CoreRegionConfig) and config.core_mask is None and config.method is None:
        config.core_mask = core()
    return config


def described(adapter: Adapter | None) -> Any:
    """An adapter as JSON values: what a kept run is compared by."""
    if adapter is None:
        return None
    values = adapter.to_dict() if isinstance(adapter, PeftConfig) else dict(adapter)
    return json.loads(json.dumps(values, default=_plain))


def applied(model: nn.Module, config: PeftConfig, *, name: str) -> Any:
    """The model wrapped in an adapter.

    Raises:
        ConfigurationError: PEFT cannot apply the method to this model; its own words are part of the message.
    """
    try:
        return peft.get_peft_model(model, config)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, NotImplementedError) as error:
        raise ConfigurationError(
            f"The method {name!r} cannot be applied to this model: {error} Change its options, or leave it out."
        ) from error


def virtual_tokens(config: PeftConfig) -> int:
    """Positions of the context that the method takes for itself."""
    return int(getattr(config, "num_virtual_tokens", 0) or 0) if config.is_prompt_learning else 0


def finished(trained: nn.Module) -> nn.Module:
    """A trained model to be measured: merged where the method can be merged, else with its adapter."""
    if not isinstance(trained, peft.PeftModel) or not isinstance(trained.base_model, BaseTuner):
        return trained  # nothing to merge: no adapter, or virtual tokens
    try:
        merged: Any = copy.deepcopy(trained).merge_and_unload()  # a copy: a merge that fails may be half done
    except _CANNOT_MERGE:
        return cast("nn.Module", trained)
    return cast("nn.Module", merged)


def _from_mapping(values: Mapping[str, Any]) -> PeftConfig:
    kinds = {str(kind.value): kind for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    name = str(values.get("peft_type", "")).upper()
    if name not in kinds:
        raise ConfigurationError(
            f"An adapter names its method as peft_type, one of {', '.join(sorted(kinds))}; got {values.get('peft_type')!r}."
        )
    options = {key: copy.deepcopy(value) for key, value in values.items() if key != "peft_type"}
    try:
        config: PeftConfig = PEFT_TYPE_TO_CONFIG_MAPPING[kinds[name]](**options)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"PEFT refuses the options of {name}: {error}") from error
    return config


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return value.digest() if isinstance(value, CoreMask) else str(value)
