"""Mixed batches: every row of a batch with an adapter of its own, at inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from peft.utils import AuxiliaryTrainingWrapper
from torch import nn

from hf_langcore.errors import ConfigurationError, InputError
from hf_langcore.tuner.layer import BASE, CoreRegionLayer, tuner_layers

_BATCH_OF_SEQUENCES = 3  # dimensions


class MixedBatches:
    """`adapter_names=` in a model's `forward` and `generate`, as LoRA has it."""

    model: nn.Module
    training: bool

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Tell every layer the names of the adapters while the model runs; called by PEFT."""
        names = kwargs.get("adapter_names")
        if names is None:
            yield
            return
        self._check_names(names)
        _check_rows(names, args, kwargs)
        beams = kwargs.get("num_beams")
        encoder = _encoder(self.model)
        in_encoder = set() if encoder is None else set(map(id, encoder.modules()))
        repeated = [name for name in names for _ in range(beams)] if isinstance(beams, int) and beams > 1 else names
        with ExitStack() as hooks:
            for parent in self.model.modules():
                # The encoder sees each row once, before the beams multiply them.
                mine = names if id(parent) in in_encoder else repeated
                rows = _Rows()
                for module in parent.children():
                    if isinstance(module, (CoreRegionLayer, AuxiliaryTrainingWrapper)):
                        hooks.callback(_hooked(module, _Names(mine, rows)))
                        hooks.callback(_hooked(parent, rows))
            yield

    def _check_names(self, names: Any) -> None:
        if not isinstance(names, (list, tuple)):
            raise InputError(f"adapter_names takes a list of names, one for each row, got {type(names).__name__}.")
        if self.training:
            raise ConfigurationError("Cannot pass `adapter_names` when the model is in training mode.")
        known = {name for layer in tuner_layers(self.model) for name in layer.core_region_mask}
        unknown = set(names) - known - {BASE}
        if unknown:
            raise InputError(f"Trying to infer with non-existing adapter(s): {', '.join(sorted(unknown))}")


def _check_rows(names: list[str], args: Any, kwargs: dict[str, Any]) -> None:
    """Here the batch is still whole; some models flatten it before their layers see it."""
    inputs = [*args, *(kwargs.get(name) for name in ("input_ids", "inputs_embeds", "inputs", "x"))]
    rows = next((len(value) for value in inputs if isinstance(value, torch.Tensor) and value.dim()), len(names))
    if rows != len(names):
        raise InputError(
            "Length of `adapter_names` should be the same as the number of inputs, but got "
            f"{len(names)} and {rows} respectively."
        )


class _Rows:
    """A hook that sees the batch before a module's own layers do."""

    def __init__(self) -> None:
        self.tokens = 1

    def __call__(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:  # noqa: ARG002
        """Remember how many tokens each row has, because OPT lays them all in one row for its feed-forward layers."""
        states = args[0] if args else kwargs.get("hidden_states")
        self.tokens = 1
        if isinstance(states, torch.Tensor) and states.dim() == _BATCH_OF_SEQUENCES:
            self.tokens = states.shape[1]


class _Names:
    """A hook that adds the names to a layer's arguments."""

    def __init__(self, names: list[str], rows: _Rows) -> None:
        self._names = names
        self._rows = rows

    def __call__(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:  # noqa: ARG002
        names, tokens = self._names, self._rows.tokens
        if args and args[0].dim() < _BATCH_OF_SEQUENCES and len(args[0]) == len(names) * tokens:
            names = [name for name in names for _ in range(tokens)]
        return args, {**kwargs, "adapter_names": names}


def _hooked(module: nn.Module, hook: Callable[..., Any]) -> Callable[[], None]:
    """Register a hook; gives what takes it away again."""
    return module.register_forward_pre_hook(hook, with_kwargs=True).remove


def _encoder(model: nn.Module) -> nn.Module | None:
    """The encoder of a model that has one beside a decoder."""
    get_encoder = getattr(model, "get_encoder", None)
    encoder = get_encoder() if callable(get_encoder) else None
    return encoder if isinstance(encoder, nn.Module) and encoder is not model else None
