"""What a model is made of: which weights belong to decoder layers, how they are named, how they are laid out.

Everything here works on plain `torch.nn.Module` trees and knows wrappers (PEFT, torch.compile, DDP) only by
the child modules that they leave behind, so that no other library has to be imported.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import nn

from hf_langcore.errors import InputError, UnsupportedModelError

Extra = Literal["embeddings", "lm_head"]

_MATRIX = 2
_SMALLEST_ITEM = 2  # bytes; float8 is a quantised form
# Where PEFT and torch.compile keep the module they cover.
_COVERS = ("base_layer", "original_module", "token_adapter", "_orig_mod")
_GAIN_OFFSETS: WeakKeyDictionary[type[nn.Module], float] = WeakKeyDictionary()
_FUSED_HINT = (
    " This model may fuse several projections into one weight (c_attn, qkv_proj, query_key_value, gate_up_proj): "
    "name the fused weight; its rows stand one projection after the other."
)


@dataclass(frozen=True, slots=True)
class Weight:
    """One parameter of the bare model.

    Attributes:
        name: Its name in the bare model, without prefixes of wrappers.
        parameter: The parameter itself.
        owner: The module that holds it.
        is_shadowed: An active adapter uses a copy of its own instead (PEFT's `modules_to_save`), so that the model's
            function does not depend on this parameter.
    """

    name: str
    parameter: nn.Parameter
    owner: nn.Module
    is_shadowed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the checkpoint, and so in masks; a quantisation library may hold the weight packed or transposed."""
        packed = _quantization_state(self.parameter)
        # DeepSpeed's ZeRO-3 leaves an empty tensor behind and notes the shape.
        here = getattr(self.parameter, "ds_shape", self.parameter.shape)
        shape = tuple(here if packed is None else packed.shape)
        return shape[::-1] if self.is_transposed and self.is_quantized else shape

    @property
    def is_quantized(self) -> bool:
        """True where the parameter holds codes, whose values only the quantisation library can tell."""
        dtype = self.parameter.dtype
        is_code = not dtype.is_floating_point or dtype.itemsize < _SMALLEST_ITEM
        return is_code or _quantization_state(self.parameter) is not None  # codes may be packed into floats, too

    @property
    def is_transposed(self) -> bool:
        """True for GPT-2's Conv1D, which stores (in, out) where nn.Linear stores (out, in)."""
        is_matrix = self.parameter.dim() == _MATRIX
        # transformers notes what a quantised layer was before.
        kind = getattr(self.owner, "source_cls", type(self.owner))
        return is_matrix and any(base.__name__ == "Conv1D" for base in getattr(kind, "__mro__", ()))

    @property
    def gain_offset(self) -> float:
        """1.0 where a norm multiplies by 1 + weight (Gemma, Qwen3-Next), 0.0 everywhere else."""
        is_gain = self.parameter.dim() == 1 and self.name.endswith(".weight")
        return _gain_offset_of(self.owner) if is_gain else 0.0

    def storage_axis(self, axis: int) -> int:
        """The axis of the stored tensor that is `axis` in nn.Linear orientation (0 = outputs, 1 = inputs)."""
        return 1 - axis if self.is_transposed else axis


def unwrap(model: nn.Module) -> nn.Module:
    """The bare model inside PEFT, torch.compile and DistributedDataParallel wrappers.

    Raises:
        InputError: `model` is no model.
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"Expected a model object, got {model!r:.80}. Load it first: AutoModelForCausalLM.from_pretrained(...)."
        )
    while True:
        inner = _wrapped(model)
        if inner is None:
            return model
        model = inner


def bare_weights(model: nn.Module) -> dict[str, Weight]:
    """All parameters of the bare model by name, each once; adapter parameters of PEFT layers are left out."""
    found: dict[str, Weight] = {}
    seen: set[int] = set()
    for weight in _walk(unwrap(model), ""):
        if id(weight.parameter) not in seen:
            seen.add(id(weight.parameter))
            found[weight.name] = weight
    return found


def aliases(model: nn.Module) -> dict[str, str]:
    """Second names of tied parameters: alias -> the name under which `bare_weights` lists the parameter."""
    first: dict[int, str] = {}
    second: dict[str, str] = {}
    for weight in _walk(unwrap(model), ""):
        name = first.setdefault(id(weight.parameter), weight.name)
        if name != weight.name:
            second[weight.name] = name
    return second


def decoder_weights(
    model: nn.Module, *, include: Extra | Iterable[Extra] = (), quantized: bool = False
) -> dict[str, Weight]:
    """The weights in which a core is looked for: every parameter of the decoder layers.

    As in the published code these are all tensors of the repeated layers, norms and biases included; never
    embeddings or the LM head unless `include` names them.

    Args:
        model: A causal LM, bare or wrapped.
        include: "embeddings", "lm_head" or both.
        quantized: Accept quantised weights, for callers that can do without their values or know how to get them.

    Raises:
        UnsupportedModelError: No decoder layers were found, weights are quantised or on the meta device, or
            the LM head was asked for but is tied to the embeddings.
    """
    bare = unwrap(model)
    prefixes = _stack_prefixes(bare)
    weights = bare_weights(bare)
    chosen = {name: weight for name, weight in weights.items() if name.startswith(prefixes)}
    for extra in [include] if isinstance(include, str) else include:
        weight = _embedding_weight(bare, weights, extra)
        chosen[weight.name] = weight
    for weight in chosen.values():
        _require_values(weight)
        if not quantized:
            require_editable(weight)
    return chosen


def find_weight(model: nn.Module, name: str) -> Weight:
    """The weight called `name` in the bare model; a module's name means its `.weight`.

    Raises:
        InputError: No such parameter; the message names the nearest ones.
        UnsupportedModelError: `name` is the second name of a tied parameter.
    """
    weights = bare_weights(model)
    for candidate in (name, f"{name}.weight"):
        if candidate in weights:
            return weights[candidate]
        tied_to = aliases(model).get(candidate)
        if tied_to is not None:
            raise UnsupportedModelError(
                f"{candidate!r} is tied to {tied_to!r}: both are one tensor, so an edit of one changes both. "
                f"Name {tied_to!r} if that is what you want, or untie them first "
                "(load the model with `tie_word_embeddings=False`)."
            )
    near = difflib.get_close_matches(name, [*weights, *(n.removesuffix(".weight") for n in weights)], n=4, cutoff=0.4)
    projection = name.removesuffix(".weight").rsplit(".", 1)[-1].endswith("_proj")
    raise InputError(
        f"The model has no parameter {name!r}. Nearest names: {', '.join(map(repr, near)) or 'none'}. "
        f"Use a name from `model.named_parameters()` of the bare model.{_FUSED_HINT if projection else ''}"
    )


def require_editable(weight: Weight) -> None:
    """Refuse weights that have no ordinary floating-point values here.

    Raises:
        UnsupportedModelError: The parameter is quantised or on the meta device.
    """
    _require_values(weight)
    if weight.is_quantized:
        raise UnsupportedModelError(
            f"{weight.name!r} has dtype {weight.parameter.dtype}: it is quantised, so single weights cannot be read "
            "or changed exactly. Load the model without a quantization_config (torch_dtype float32 or bfloat16)."
        )


def _require_values(weight: Weight) -> None:
    if weight.parameter.device.type == "meta":
        raise UnsupportedModelError(
            f"{weight.name!r} is on the meta device: it has no values. Load the weights first "
            "(without `device_map='meta'`; models that are offloaded to disk cannot be used)."
        )


def _quantization_state(parameter: nn.Parameter) -> Any:
    """Where bitsandbytes has packed several codes into each entry: what it knows of the weight, its shape for one."""
    return getattr(parameter, "quant_state", None)


def _wrapped(module: nn.Module) -> nn.Module | None:
    """The module that `module` wraps, or None where it is no wrapper."""
    children = module._modules  # noqa: SLF001 attribute access would answer properties such as `base_model` too
    for name in ("_orig_mod", "module"):
        if children.get(name) is not None and len(children) == 1:
            return children[name]
    if getattr(module, "peft_config", None) is not None:
        if children.get("base_model") is not None:
            return children["base_model"]
        if children.get("model") is not None and hasattr(module, "inject_adapter"):
            return children["model"]
    return None


def _walk(module: nn.Module, prefix: str, *, shadowed: bool = False) -> Iterator[Weight]:
    """All parameters below `module` under the names that they have without PEFT's layers around them."""
    shadowed = shadowed or _is_shadowing(module)
    module = _uncovered(module)
    for name, parameter in module._parameters.items():  # noqa: SLF001 named_parameters would drop second names
        if parameter is not None:
            yield Weight(f"{prefix}{name}", parameter, module, shadowed)
    for name, child in module._modules.items():  # noqa: SLF001 named_children would drop second names
        if child is not None:
            yield from _walk(child, f"{prefix}{name}.", shadowed=shadowed)


def _is_shadowing(module: nn.Module) -> bool:
    """Whether `module` is PEFT's wrapper of a module to save, with the copy of an active adapter in use."""
    copies = module._modules.get("modules_to_save")  # noqa: SLF001 see _wrapped
    if copies is None or getattr(module, "disable_adapters", True):
        return False
    active = getattr(module, "active_adapters", ())
    return any(name in copies for name in active)  # type: ignore[operator]


def _uncovered(module: nn.Module) -> nn.Module:
    """The bare model's module inside PEFT's layers and compiled modules."""
    children: Mapping[str, nn.Module | None] = module._modules  # noqa: SLF001 see _wrapped
    inner = next((children[name] for name in _COVERS if children.get(name) is not None), None)
    return module if inner is None else _uncovered(inner)


def _stack_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Name prefixes of the model's stacks of layers: the outermost module lists that hold matrices."""
    stacks = list(_outermost_lists(model, ""))
    config = getattr(model, "config", None)
    if len(stacks) > 1 and not getattr(config, "is_encoder_decoder", False):
        stacks = _in_text_decoder(model, stacks) or stacks
    if not stacks:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no list of decoder layers (an nn.ModuleList with weight matrices in it), so "
            "there is nothing in which a core could be looked for. Pass a transformers causal language model."
        )
    return tuple(f"{name}." for name, _ in stacks)


def _in_text_decoder(model: nn.Module, stacks: list[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module]]:
    """Of several stacks (a vision tower beside a language model) those inside the language model."""
    get_decoder = getattr(model, "get_decoder", None)
    decoder = get_decoder() if callable(get_decoder) else None
    inside = set(map(id, decoder.modules())) if isinstance(decoder, nn.Module) else set()
    return [(name, stack) for name, stack in stacks if id(stack) in inside]


def _outermost_lists(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, covered in module.named_children():
        child = _uncovered(covered)
        is_stack = isinstance(child, nn.ModuleList) and any(
            parameter.dim() >= _MATRIX
            for inner in child.modules()
            if not isinstance(inner, nn.Embedding)
            for parameter in inner.parameters(recurse=False)
        )
        if is_stack:
            yield f"{prefix}{name}", child
        else:
            yield from _outermost_lists(child, f"{prefix}{name}.")


def _embedding_weight(model: nn.Module, weights: dict[str, Weight], extra: str) -> Weight:
    getters = {"embeddings": "get_input_embeddings", "lm_head": "get_output_embeddings"}
    if extra not in getters:
        raise InputError(f"include takes {sorted(getters)}, got {extra!r}.")
    module = getattr(model, getters[extra], lambda: None)()
    owner = _uncovered(module) if isinstance(module, nn.Module) else None
    parameter = getattr(owner, "weight", None)
    for weight in weights.values():
        if weight.parameter is parameter and weight.owner is owner:
            return weight
    if parameter is None:
        raise UnsupportedModelError(f"{type(model).__name__} has no {extra} weight; leave it out of `include`.")
    raise UnsupportedModelError(
        f"The {extra} weight is tied to another parameter: both are one tensor. "
        "Use include=('embeddings',), which stands for both."
    )


def _gain_offset_of(norm: nn.Module) -> float:
    """Measured once a class, because the answer depends on the class and not on the weights."""
    if type(norm) not in _GAIN_OFFSETS:
        _GAIN_OFFSETS[type(norm)] = _measure_gain_offset(norm)
    return _GAIN_OFFSETS[type(norm)]


def _measure_gain_offset(norm: nn.Module) -> float:
    """Ask the norm itself: with a zero weight it answers zero, or the input's norm where it uses 1 + weight."""
    weight = norm._parameters["weight"]  # noqa: SLF001 the parameter, not a property of the same name
    if weight is None:
        return 0.0
    device = "cpu" if weight.device.type == "meta" else weight.device  # a shape is all that is needed
    probe = torch.linspace(1, 2, weight.numel(), dtype=weight.dtype, device=device)[None, None]
    zeros = {name: torch.zeros_like(value, device=device) for name, value in norm.named_parameters()}
    try:
        with torch.no_grad():
            zero = torch.func.functional_call(norm, zeros, (probe,))
            one = torch.func.functional_call(norm, {**zeros, "weight": zeros["weight"] + 1}, (probe,))
    except (TypeError, RuntimeError, ValueError):  # a gated norm wants a second input; those multiply by weight
        return 0.0
    adds_one = bool(zero.abs().max() > 0) and torch.allclose(one, 2 * zero, rtol=0.05)
    return 1.0 if adds_one else 0.0
