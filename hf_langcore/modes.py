"""Temporary states of a model: each context leaves every flag as it found it. And what is not as in the checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from hf_langcore.architecture import unwrap
from hf_langcore.errors import InputError

_ALTERED = "_hf_langcore_alterations"
_ALTERED_CONFIG = "core_region_edits"
_TRAINED = "_hf_langcore_trained"
_TRAINED_IN_PLACE = "weights trained in place"


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Switch dropout off; modules that were training are training again afterwards, one by one."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def gradients_for(model: nn.Module, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Let only `parameters` require gradients; flags and gradients that were there come back afterwards."""
    wanted = {id(parameter) for parameter in parameters}
    before = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    try:
        for parameter, _, _ in before:
            parameter.grad = None
            parameter.requires_grad_(id(parameter) in wanted)
        yield
    finally:
        for parameter, required, gradient in before:
            parameter.requires_grad_(required)
            parameter.grad = gradient


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """Switch PEFT adapters off, so that the model is its base.

    Raises:
        InputError: An adapter is merged: then the base weights are not there to be seen.
    """
    layers = adapter_layers(model)
    if any(getattr(layer, "merged", False) for layer in layers):
        raise InputError(
            "An adapter is merged into the weights, so the base model cannot be measured: call unmerge_adapter()."
        )
    enabled = [layer for layer in layers if not layer.disable_adapters]
    required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for layer in enabled:
            layer.enable_adapters(False)
        yield
    finally:
        for layer in enabled:
            layer.enable_adapters(True)
        for parameter, flag in required:
            parameter.requires_grad_(flag)


def adapter_layers(model: nn.Module) -> list[Any]:
    """PEFT's tuner layers and modules to save; transformers' models have methods of these names."""
    return [
        module
        for module in model.modules()
        if hasattr(module, "enable_adapters") and isinstance(getattr(module, "disable_adapters", None), bool)
    ]


def note_alteration(model: nn.Module, what: str, *, core_mask: str | None = None) -> None:
    """Note that a model's weights are not those of its checkpoint any more, so that whoever measures it can say so.

    The note is an attribute of the bare model, so that copies of the model have it too, and stands in its config, so that
    it is saved and loaded with the weights.

    Args:
        model: The model, bare or wrapped.
        what: What was done, in a few words: "zero, taylor top 3 % (en de), 1,234 weights".
        core_mask: Digest of the mask that was edited; None where that is no mask, or a control of one.
    """
    for store, name in _stores(unwrap(model)):
        store[name] = [*_listed(store.get(name)), {"edit": what, "core_mask": core_mask}]


def forget_alteration(model: nn.Module, what: str) -> None:
    """Take back the last such note, because the old values are back."""
    for store, name in _stores(unwrap(model)):
        noted = _listed(store.pop(name, None))
        last = max((place for place, one in enumerate(noted) if _words(one) == what), default=len(noted))
        noted = noted[:last] + noted[last + 1 :]
        if noted:
            store[name] = noted


def alterations(model: nn.Module) -> list[str]:
    """What this library has written into a model and not taken back: open edits and those that are kept for good.

    Edits of a model that was saved and loaded are among them. Weights that other code has changed, and an adapter that was
    merged and unloaded, leave no note.
    """
    return [_words(one) for one in _noted(model)]


def edited_masks(model: nn.Module) -> list[str]:
    """Digests of the masks that `alterations` are about, each once; dimensions, controls and complements have none."""
    digests = [one.get("core_mask") for one in _noted(model) if isinstance(one, dict)]
    return list(dict.fromkeys(digest for digest in digests if isinstance(digest, str)))


def _noted(model: nn.Module) -> list[Any]:
    """The notes: what a config says, which was loaded or is a copy of the model's own notes, and what it lacks of these."""
    configs = {id(config): config for module in model.modules() for config in _config_of(module)}
    noted = [one for config in configs.values() for one in _listed(vars(config).get(_ALTERED_CONFIG))]
    unmatched = list(noted)
    for one in [one for module in model.modules() for one in module.__dict__.get(_ALTERED, ())]:
        if one in unmatched:
            unmatched.remove(one)
        else:
            noted.append(one)
    return noted


def _stores(bare: nn.Module) -> list[tuple[dict[str, Any], str]]:
    """Where notes are kept: the model's attributes, and its config's, which transformers writes to `config.json`."""
    return [(bare.__dict__, _ALTERED), *((vars(config), _ALTERED_CONFIG) for config in _config_of(bare))]


def _config_of(module: nn.Module) -> list[Any]:
    config = module.__dict__.get("config")
    # A config of transformers, by what it can do: importing its class would load all of the library.
    return [config] if hasattr(config, "to_json_file") else []


def _listed(noted: Any) -> list[Any]:
    """Notes as a list, also those of a config that anybody may have written."""
    if noted is None:
        return []
    return list(noted) if isinstance(noted, (list, tuple)) else [noted]


def _words(note: Any) -> str:
    return str(note.get("edit", "edited") if isinstance(note, dict) else note)


def note_training(model: nn.Module) -> None:
    """Note that a model's own weights were trained, so that it is not the model any more that its config names."""
    unwrap(model).__dict__[_TRAINED] = True


def adapters_in_force(model: nn.Module) -> list[str]:
    """What makes a model another one than its base: PEFT adapters that take part in a forward pass, and training in place.

    Returns:
        Adapters with their kind, merged ones included, such as "default (LORA)"; "weights trained in place" where
        `note_training` was called.
    """
    trained = [_TRAINED_IN_PLACE] if any(module.__dict__.get(_TRAINED) for module in model.modules()) else []
    names = [name for layer in adapter_layers(model) for name in _adapters_of(layer)]
    prompts = [name for module in model.modules() for name in _prompts_of(module)]
    kinds = {name: kind for module in model.modules() for name, kind in _kinds_of(module).items()}
    named = [f"{name} ({kinds[name]})" if name in kinds else name for name in dict.fromkeys([*names, *prompts])]
    return named + trained


def _adapters_of(layer: Any) -> list[str]:
    merged = list(getattr(layer, "merged_adapters", None) or ())
    if layer.disable_adapters:
        return merged
    return [*merged, *(str(name) for name in getattr(layer, "active_adapters", None) or ())]


def _prompts_of(module: nn.Module) -> list[str]:
    """Prompt tuning and its relatives have no layers of their own; PeftModel holds them."""
    holds_prompt = isinstance(getattr(module, "prompt_encoder", None), nn.ModuleDict)
    if not holds_prompt or getattr(module, "_adapters_disabled", False):
        return []
    active = getattr(module, "active_adapter", None)
    return [active] if isinstance(active, str) and active in module.prompt_encoder else []  # type: ignore[operator]


def _kinds_of(module: nn.Module) -> dict[str, str]:
    configs = getattr(module, "peft_config", None)
    if not isinstance(configs, dict):
        return {}
    return {name: str(getattr(config.peft_type, "value", config.peft_type)) for name, config in configs.items()}
