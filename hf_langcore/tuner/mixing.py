"""Mixed batches: every row of a batch with an adapter of its own, at inference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from peft.utils import AuxiliaryTrainingWrapper
from torch import nn

from hf_langcore.errors import ConfigurationError, InputError
from hf_langcore.tuner.layer import BASE, CoreRegionLayer, tuner_layers


class MixedBatches:
    """`adapter_names=` in a model's `forward` and `generate`, as LoRA has it."""

    model: nn.Module
    training: bool

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:  # noqa: ARG002 PEFT's signature
        """Tell every layer the names of the adapters while the model runs; called by PEFT."""
        names = kwargs.get("adapter_names")
        if names is None:
            yield
            return
        self._check_names(names)
        beams = kwargs.get("num_beams")
        encoder = _encoder(self.model)
        in_encoder = set() if encoder is None else set(map(id, encoder.modules()))
        repeated = [name for name in names for _ in range(beams)] if isinstance(beams, int) and beams > 1 else names
        with ExitStack() as hooks:
            for module in self.model.modules():
                if isinstance(module, (CoreRegionLayer, AuxiliaryTrainingWrapper)):
                    # The encoder sees each row once, before the beams multiply them.
                    hook = _Names(names if id(module) in in_encoder else repeated)
                    hooks.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
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


class _Names:
    """A hook that adds the names to a layer's arguments."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def __call__(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:  # noqa: ARG002
        return args, {**kwargs, "adapter_names": self._names}


def _encoder(model: nn.Module) -> nn.Module | None:
    """The encoder of a model that has one beside a decoder."""
    get_encoder = getattr(model, "get_encoder", None)
    encoder = get_encoder() if callable(get_encoder) else None
    return encoder if isinstance(encoder, nn.Module) and encoder is not model else None
