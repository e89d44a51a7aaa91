"""The edits: perturb a region, scale or set one dimension."""

from __future__ import annotations

import math
import operator
import re
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any, Literal, get_args

import torch
from torch import nn

from hf_langcore.architecture import Weight, aliases, find_weight, require_editable
from hf_langcore.binding import bind
from hf_langcore.editing.handle import Change, EditHandle, value_before_edits
from hf_langcore.errors import ConfigurationError, InputError
from hf_langcore.masks import CoreMask

How = Literal["zero", "noise", "shuffle", "mean", "reinit", "scale"]

_MATRIX = 2
_DRAWN = re.compile(r"\b(?:complement|random (?:\w+ )?of equal size)\b")  # how CoreMask words these operations


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How new values are made; see `perturb` for the meaning of the fields."""

    how: How
    factor: float | None
    std: float
    seed: int
    initializer_range: float


def perturb(
    model: nn.Module,
    region: CoreMask,
    *,
    how: How = "zero",
    factor: float | None = None,
    std: float = 1.0,
    seed: int = 0,
    base_check: Literal["error", "warn", "off"] = "error",
) -> EditHandle:
    """Damage a region of the model until the handle is restored.

    - "zero": set to 0.
    - "noise": add Gaussian noise of `std` times the tensor's standard deviation.
    - "shuffle": permute the selected values of each tensor among themselves.
    - "mean": set to the mean of the whole tensor.
    - "reinit": draw again as before training: N(0, initializer_range) for matrices, gain 1 for norms, 0 for biases.
    - "scale": multiply by `factor`.

    On norms "zero" and "scale" act on the effective gain: Gemma's and Qwen3-Next's multiply by 1 + weight.

    Args:
        model: A bare or wrapped model; with active adapters the edit acts on the effective weights.
        region: The weights: a core, `core_mask.complement()`, `core_mask.random_like(seed=0)` or any other mask.
        how: What to do with them.
        factor: For "scale".
        std: For "noise", in standard deviations of each tensor.
        seed: For "noise", "shuffle" and "reinit".
        base_check: "error", "warn" or "off": what to do when the mask was found on other weights.

    Returns:
        A handle: use it in a `with` block, or call its `restore()`. Every bit comes back, also when the body raises.

    Raises:
        CoreMaskMismatchError: The mask does not fit the model.
        InputError: `how`, `factor` or `region` is wrong.

    Example:
        >>> with perturb(model, core_mask, how="zero"):  # doctest: +SKIP
        ...     print(evaluate_perplexity(model, tokenizer, corpora))
    """
    if not isinstance(region, CoreMask):
        raise InputError(
            f"region must be a CoreMask, got {region!r}. On a bare model pass core_mask, core_mask.complement() or "
            'core_mask.random_like(); the words "core", "complement" and "random" work on a PeftModel of CoreRegionConfig.'
        )
    if how not in get_args(How):
        raise InputError(f"how must be one of {list(get_args(How))}, got {how!r}.")
    if (how == "scale") != (factor is not None):
        raise ConfigurationError('factor= goes with how="scale", and only with it.')
    _require_finite("factor", 1.0 if factor is None else factor)
    _require_finite("std", std)
    weights = bind(model, region, base_check=base_check, value_of=partial(value_before_edits, model))
    for name, weight in weights.items():
        if region.count(name):
            require_editable(weight)  # before adapters are merged and positions looked up in codes
    config = getattr(model, "config", None)
    recipe = _Recipe(how, factor, std, seed, float(getattr(config, "initializer_range", 0.02) or 0.02))

    def changes(weights: Mapping[str, Weight]) -> list[Change]:
        return [
            _perturbed(weight, _positions(region, name, weight), recipe)
            for name, weight in weights.items()
            if region.count(name)
        ]

    amount = {"scale": f" by {float(factor):g}" if factor is not None else "", "noise": f" of {float(std):g} std"}.get(
        how, ""
    )
    what = f"{how}{amount}: {region.provenance.summary()}"
    return EditHandle(
        model, list(region), changes, what=what, core_mask=None if _is_control(region) else region.digest()
    )


def scale_dimension(
    model: nn.Module, name: str, index: int | Sequence[int], *, factor: float, axis: int | None = None
) -> EditHandle:
    """Multiply one dimension by a factor until the handle is restored.

    On norms the effective gain is scaled: Gemma's and Qwen3-Next's multiply by 1 + weight, and it is 1 + weight that
    is multiplied here.

    Args:
        model: A bare or wrapped model; with active adapters the edit acts on the effective weights.
        name: A parameter of the bare model, or a module, which means its `.weight`.
        index: Index of the dimension, or several.
        factor: Any finite number.
        axis: For matrices, in nn.Linear orientation also on GPT-2: 0 = an output (a row), 1 = an input (a column).

    Returns:
        A handle: use it in a `with` block, or call its `restore()`.

    Raises:
        InputError: No such parameter or index, or `axis` is missing.
        UnsupportedModelError: `name` is the second name of a tied weight.
    """
    _require_finite("factor", factor)
    return _edit_dimension(model, name, index, axis, lambda gain: gain * factor, what=f"times {float(factor):g}")


def set_dimension(
    model: nn.Module, name: str, index: int | Sequence[int], *, value: float, axis: int | None = None
) -> EditHandle:
    """Set one dimension to a value until the handle is restored; the arguments are those of `scale_dimension`.

    On norms `value` is the effective gain.
    """
    _require_finite("value", value)
    return _edit_dimension(
        model, name, index, axis, lambda gain: torch.full_like(gain, value), what=f"set to {float(value):g}"
    )


def _is_control(region: CoreMask) -> bool:
    """Whether a region is there to be compared with a mask, whose figures its own then stand beside."""
    source = region.provenance
    return "random" in {source.method, source.which} or _DRAWN.search(source.operation or "") is not None


def _edit_dimension(
    model: nn.Module,
    name: str,
    index: int | Sequence[int],
    axis: int | None,
    change: Callable[[torch.Tensor], torch.Tensor],
    *,
    what: str,
) -> EditHandle:
    weight = find_weight(model, name)
    require_editable(weight)
    _warn_if_tied(model, weight.name)
    positions = _slice_positions(weight, index, axis)

    def changes(weights: Mapping[str, Weight]) -> list[Change]:
        current = weights[weight.name]
        at = positions.to(current.parameter.device)
        gain = torch.take(current.parameter.detach(), at).float() + current.gain_offset
        values = (change(gain) - current.gain_offset).to(current.parameter.dtype)
        return [Change(current, at, values)]

    return EditHandle(model, [weight.name], changes, what=f"{weight.name} {index} {what}")


def _slice_positions(weight: Weight, index: int | Sequence[int], axis: int | None) -> torch.Tensor:
    """Flat positions of one or several dimensions in the stored tensor."""
    shape = tuple(weight.parameter.shape)
    stored_axis = weight.storage_axis(_checked_axis(weight, axis))
    indices = [_whole(one) for one in (index if isinstance(index, Sequence) else [index])]
    if not indices or not all(0 <= one < shape[stored_axis] for one in indices):
        raise InputError(
            f"{weight.name!r} has dimensions 0 to {shape[stored_axis] - 1} along axis {axis or 0}, got {index!r}."
        )
    grid = torch.arange(math.prod(shape)).view(shape)
    return grid.index_select(stored_axis, torch.tensor(indices)).reshape(-1)


def _whole(value: Any) -> int:
    """A whole number of any kind, numpy's and tensors' included."""
    try:
        return operator.index(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"index and axis are whole numbers, got {value!r}.") from error


def _checked_axis(weight: Weight, axis: int | None) -> int:
    dims = weight.parameter.dim()
    if axis is None and dims > 1:
        raise InputError(
            f"{weight.name!r} has shape {tuple(weight.parameter.shape)}: say which axis. axis=0 is an output (a row), axis=1 "
            "an input (a column), in nn.Linear orientation."
        )
    if axis is not None and not 0 <= _whole(axis) < dims:
        raise InputError(f"{weight.name!r} has {dims} axis/axes, got axis={axis!r}; expected 0 to {dims - 1}.")
    return axis or 0


def _warn_if_tied(model: nn.Module, name: str) -> None:
    others = [alias for alias, first in aliases(model).items() if first == name]
    if others:
        warnings.warn(f"{name!r} is tied to {', '.join(map(repr, others))}: the edit changes both.", stacklevel=4)


def _positions(region: CoreMask, name: str, weight: Weight) -> torch.Tensor:
    return region[name].view(-1).nonzero().view(-1).to(weight.parameter.device)


def _perturbed(weight: Weight, positions: torch.Tensor, recipe: _Recipe) -> Change:
    parameter = weight.parameter.detach()
    values = _new_values(weight, torch.take(parameter, positions), recipe)
    return Change(weight, positions, values.to(parameter.dtype))


def _new_values(weight: Weight, old: torch.Tensor, recipe: _Recipe) -> torch.Tensor:
    """New values for the selected entries `old` of `weight`: one per entry, or one for all."""
    parameter = weight.parameter.detach()
    generator = torch.Generator().manual_seed(recipe.seed ^ zlib.crc32(weight.name.encode()))
    if recipe.how == "zero":
        return old.new_full((1,), -weight.gain_offset) if weight.gain_offset else old.new_zeros(1)
    if recipe.how == "mean":
        return parameter.float().mean().reshape(1)
    if recipe.how == "scale":
        return (old.float() + weight.gain_offset) * float(recipe.factor or 0.0) - weight.gain_offset
    if recipe.how == "shuffle":
        return old[torch.randperm(old.numel(), generator=generator).to(old.device)]
    if recipe.how == "reinit" and parameter.dim() < _MATRIX:
        return old.new_full((1,), _initial_value(weight))
    noise = torch.randn(old.numel(), generator=generator).to(old.device)
    if recipe.how == "reinit":
        return noise * recipe.initializer_range
    return old.float() + noise * (recipe.std * parameter.float().std(correction=0))


def _initial_value(weight: Weight) -> float:
    """What a vector holds before training: an effective gain of 1, a bias of 0."""
    return 1.0 - weight.gain_offset if weight.name.endswith(".weight") else 0.0


def _require_finite(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise InputError(f"{name} must be a finite number, got {value!r}.")
