"""Temporary states of a model: each context leaves every flag as it found it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from hf_langcore.errors import InputError


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
