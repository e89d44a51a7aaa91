"""Quantised linear layers: which they are, and their weights as ordinary numbers. PEFT's backends know the libraries."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from peft.utils import resolve_quantization_backend
from torch import nn
from transformers.pytorch_utils import Conv1D

from hf_langcore.architecture import Weight
from hf_langcore.errors import UnsupportedModelError


def is_quantized_linear(module: nn.Module) -> bool:
    """Whether the module is a linear layer of a quantisation library that PEFT knows, with its weight in one tensor.

    Those that split it (GPTQ, AWQ, HQQ) have no parameter that a mask could name.
    """
    backend = resolve_quantization_backend(module)
    is_linear = backend is not None and backend.layer_type == "linear"
    return is_linear and isinstance(getattr(module, "weight", None), torch.Tensor)


def was_conv1d(module: nn.Module) -> bool:
    """Whether a quantised layer stands for transformers' Conv1D.

    Checkpoints and masks have its weight as (in, out), the quantised layer as (out, in).
    """
    source = getattr(module, "source_cls", None)  # noted by transformers
    return isinstance(source, type) and issubclass(source, Conv1D)


def require_dequantizable(name: str, module: nn.Module) -> None:
    """Refuse layers whose weight cannot be had as ordinary numbers.

    Args:
        name: The layer's name, for the message.
        module: The layer.

    Raises:
        UnsupportedModelError: The library cannot dequantise, nothing is quantised, or there are no values.
    """
    backend = resolve_quantization_backend(module)
    if backend is None or not backend.supports_merge:
        kind = type(module).__name__ if backend is None else backend.backend_name
        raise UnsupportedModelError(
            f"{name!r} is quantised by {kind}, whose weights PEFT cannot turn back into ordinary numbers. Load the model "
            "without quantisation."
        )
    weight: Any = module.weight
    if weight.is_meta:
        raise UnsupportedModelError(
            f"{name!r} is on the meta device: it has no values. Load the model without offloading it to disk."
        )
    if not Weight(name, weight, module).is_quantized:
        raise UnsupportedModelError(
            f"{name!r} is a {type(module).__name__} whose weight has not been quantised, as happens to heads that are tied "
            "to the embeddings and to has_fp16_weights. Keep the layer out of quantisation (llm_int8_skip_modules)."
        )


def dequantized(name: str, module: nn.Module) -> torch.Tensor:
    """The weight of a quantised linear layer as ordinary numbers, in the shape that it has in checkpoints.

    Args:
        name: The layer's name, for messages.
        module: The layer.

    Returns:
        A fresh tensor, in float32 or the 16-bit type that the weight had before.

    Raises:
        UnsupportedModelError: See `require_dequantizable`.
    """
    require_dequantizable(name, module)
    backend: Any = resolve_quantization_backend(module)
    with torch.no_grad():
        weight: torch.Tensor = backend.get_base_weight(module).detach()
    return weight.t() if was_conv1d(module) else weight


def keep_plain_layout(model: nn.Module) -> None:
    """Have bitsandbytes keep its 4-bit weights in the layout that can be trained through and dequantised.

    On CPUs with AVX512-BF16 it rewrites them at the first inference, for a faster product. From then on the product has no
    gradient (torch warns, at most), so that training after an evaluation goes wrong, and its own dequantisation gives
    other numbers. The new layout is switched off in all layers, and layers that have it already are written back; only
    their scales stay as bitsandbytes has rounded them.
    """
    rewritten = [module for module in model.modules() if _is_rewritten(module)]
    for module in rewritten:
        _write_back(module)
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
    if rewritten:
        warnings.warn(
            f"The model was used for inference before it got its adapter: bitsandbytes has rounded the scales of {len(rewritten)} "
            "4-bit layers to bfloat16 for that, which changes their weights by up to 0.4 %. Load the model again and add the "
            "adapter first to have them as they were; disable_adapter() gives the bare model.",
            stacklevel=2,
        )


def _is_rewritten(module: nn.Module) -> bool:
    state = getattr(getattr(module, "weight", None), "quant_state", None)
    return bool(getattr(state, "packing_format_for_cpu", False))


def _write_back(module: Any) -> None:
    from bitsandbytes import functional

    state = module.weight.quant_state
    state.original_nested = False  # or the scales would be quantised once more
    weight, state = functional._convert_weight_packed_for_cpu_inverse(module.weight.data, state)  # noqa: SLF001
    state.absmax = state.absmax.T.reshape(-1).float()
    state.state2 = state.offset = None
    module.weight.data, module.weight.quant_state = weight, state
