"""Single parameters with CORE_REGION adapters: what `target_parameters` names, such as the experts of a mixture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from hf_langcore.errors import ConfigurationError, InputError, UnsupportedModelError
from hf_langcore.masks import PackedBits
from hf_langcore.tuner.config import CoreRegionConfig
from hf_langcore.tuner.cores import Elsewhere, LayerCore
from hf_langcore.tuner.layer import CoreRegionLayer
from hf_langcore.tuner.masked_linear import Change, EffectiveWeight

_MATRIX = 2
_STACK = 3


class ParamWrapper(nn.Module, CoreRegionLayer):
    """A module of which one parameter, a matrix or a stack of matrices, has CORE_REGION adapters.

    PEFT knows wrappers of parameters by this class name. As in LoRA, several parameters of one module nest their
    wrappers, and a stack of E matrices has E pairs of factors: A is (E, r, in), B (E, out, r).

    While the module runs, the parameter reads as its effective value. Read from outside it is the stored one.
    """

    def __init__(
        self,
        base_layer: nn.Module,
        adapter_name: str,
        core: PackedBits | None,
        *,
        parameter_name: str,
        config: CoreRegionConfig,
        key: str = "",
        elsewhere: Elsewhere | None = None,
    ) -> None:
        if config.lora_dropout:
            raise ConfigurationError(
                f"core_region.ParamWrapper does not work with lora_dropout != 0: the input of {key!r} cannot be told "
                "from what the module makes of it. Set lora_dropout=0 where target_parameters are given."
            )
        super().__init__()
        self.parameter_name = parameter_name
        innermost = base_layer
        while isinstance(innermost, ParamWrapper):
            innermost = innermost.base_layer
        self._stack, self.fan_in_fan_out = _layout(innermost, parameter_name, key)
        CoreRegionLayer.__init__(self, base_layer, elsewhere=elsewhere)
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, core, config=config, key=key)

    def _features(self) -> tuple[int, int]:
        rows, columns = self.adapted.shape[-2:]
        return (rows, columns) if self.fan_in_fan_out else (columns, rows)

    def holds(self, parameter_name: str | None) -> bool:
        """Whether a further adapter of this parameter belongs here."""
        return parameter_name == self.parameter_name

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the stored parameter."""
        return self._stack + super().weight_shape

    forward = CoreRegionLayer.forward
    extra_repr = CoreRegionLayer.extra_repr

    def _check_mixed_batch(self, x: torch.Tensor, adapter_names: list[str] | None) -> None:
        if adapter_names is not None:
            raise InputError(
                "core_region.ParamWrapper does not support mixed adapter batches yet: the module works on the whole "
                "batch with one value of its parameter."
            )
        super()._check_mixed_batch(x, adapter_names)

    def _adapted(self, x: torch.Tensor, names: list[str], core: LayerCore, *args: Any, **kwargs: Any) -> torch.Tensor:
        with self._effective_parameter(names, core):
            result: torch.Tensor = self.base_layer(x, *args, **kwargs)
            return result

    @contextmanager
    def _effective_parameter(self, names: list[str], core: LayerCore) -> Iterator[None]:
        base, parameter = self.get_base_layer(), self.adapted
        wants_grad = parameter.requires_grad
        order = list(base._parameters)  # noqa: SLF001 taking a parametrisation away puts the parameter last
        proxy = _Effective(self._change(names, parameter.dtype), core)
        parametrize.register_parametrization(base, self.parameter_name, proxy, unsafe=True)
        base.parametrizations[self.parameter_name].original.requires_grad_(wants_grad)
        try:
            with parametrize.cached():
                yield
        finally:
            self._remove(proxy)
            for name in order:
                if name in base._parameters:  # noqa: SLF001
                    base._parameters[name] = base._parameters.pop(name)  # noqa: SLF001

    def _remove(self, proxy: nn.Module) -> None:
        """Take our parametrisation away, and no other that the parameter may have."""
        base = self.get_base_layer()
        applied: Any = base.parametrizations[self.parameter_name]
        if len(applied) == 1:
            parametrize.remove_parametrizations(base, self.parameter_name, leave_parametrized=False)
            return
        del applied[next(place for place, other in enumerate(applied) if other is proxy)]

    def unload_and_optionally_merge_module(
        self,
        merge: bool,  # noqa: FBT001 PEFT's signature
        safe_merge: bool,  # noqa: FBT001
        adapter_names: list[str] | None,
    ) -> nn.Module:
        """The bare module, merged or not; called by PEFT."""
        layer: nn.Module = self
        while isinstance(layer, ParamWrapper):
            if merge:
                layer.merge(safe_merge=safe_merge, adapter_names=adapter_names)
            layer = layer.base_layer
        return layer

    def __repr__(self) -> str:
        text = super().__repr__()
        start = text.find("(") + 1
        return f"core_region.{text[:start]}\n  parameter_name={self.parameter_name!r},{text[start:]}"


class _Effective(nn.Module):
    """The parametrisation: effective instead of stored values."""

    def __init__(self, change: Change, core: LayerCore) -> None:
        super().__init__()
        self._change = change
        self._core = core

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        change = self._change
        if torch.compiler.is_compiling():
            return torch.where(self._core.mask(), weight, change.on(weight))
        effective: torch.Tensor = EffectiveWeight.apply(  # type: ignore[no-untyped-call]
            weight, change.left, change.right, change.dense, self._core
        )
        return effective


def _layout(module: nn.Module, name: str, key: str) -> tuple[tuple[int, ...], bool]:
    """Number of stacked matrices, and whether each is stored as (in, out)."""
    parameter = getattr(module, name)
    if parameter.dim() not in {_MATRIX, _STACK}:
        raise UnsupportedModelError(
            f"Parameter {key!r} has {parameter.dim()} dimensions; target_parameters takes matrices and stacks of "
            "matrices (experts first). Name another parameter."
        )
    # transformers marks modules whose experts are stored as (experts, in, out).
    transposed = bool(getattr(module, "is_transposed", False)) and parameter.dim() == _STACK
    return tuple(parameter.shape[:-2]), transposed
