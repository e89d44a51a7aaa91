"""Candidates from the activations of one forward pass.

- Massive activations: residual dimensions whose largest absolute value is far above the layer's median. What writes them
  where they grow most (rows of the writing matrices), and the norm gains that read them from there on.
- Super weights: where a spike of the output projection's output comes from: the row of the spike and the input that gives
  most of it, at that token.
- Entries that carry most: abs(weight) x largest absolute input, in every matrix; norm gains with the largest outputs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from hf_langcore.architecture import unwrap
from hf_langcore.data import Window
from hf_langcore.evaluation import ScoringTask
from hf_langcore.modes import eval_mode
from hf_langcore.scanning.candidates import Candidate, largest, norm_candidate, slice_candidate
from hf_langcore.scanning.tensors import Matrix, Tensors

SOURCE = "activations"

_OF_EACH = 4
_MASSIVE = 8  # residual dimensions that are followed
_TOKENS = 4096  # in the one batch, padding included
_TINY = 1e-12


@dataclass(slots=True)
class _Seen:
    """What the one pass left: tensors on the device, absolute values, the largest over all tokens."""

    residual: dict[int, torch.Tensor] = field(default_factory=dict)
    outputs: dict[str, torch.Tensor] = field(default_factory=dict)
    entries: list[Candidate] = field(default_factory=list)
    spikes: list[Candidate] = field(default_factory=list)


def activation_candidates(
    model: nn.Module, tensors: Tensors, task: ScoringTask, *, limit: int = 64
) -> list[list[Candidate]]:
    """Rankings from exactly one forward pass: one call of the model with one padded batch over all languages.

    Args:
        model: A causal LM, as it is now.
        tensors: What of it can be scanned.
        task: The texts; of each language the first window is used, two where there is room.
        limit: Length of each ranking.
    """
    ids, present = _one_batch(task, next(model.parameters()).device)
    seen = _Seen()
    with eval_mode(model), torch.inference_mode(), _watching(model, tensors, present, seen):
        model(input_ids=ids, attention_mask=present, use_cache=False, **_few_logits(model))
    massive = _massive(tensors, seen)
    gains = [
        one
        for name, peaks in seen.outputs.items()
        for one in largest(name, "norm", _relative(peaks), SOURCE, count=2 * _OF_EACH)
    ]
    rankings = [gains, seen.entries, seen.spikes, *massive]
    return [sorted(one, key=lambda found: -found.score)[:limit] for one in rankings if one]


def _one_batch(task: ScoringTask, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and what of them is text, both (windows, width)."""
    by_rank: list[Window] = [windows[0] for windows in task.windows.values()]
    by_rank += [windows[1] for windows in task.windows.values() if len(windows) > 1]
    width = max(len(window.ids) for window in by_rank)
    first = len(task.windows)
    chosen = by_rank[: max(first, _TOKENS // width)]
    width = max(2, min(width, _TOKENS // len(chosen)))
    ids = torch.full((len(chosen), width), task.start.id, dtype=torch.int64)
    present = torch.zeros((len(chosen), width), dtype=torch.int64)
    for row, window in enumerate(chosen):
        length = min(width, len(window.ids))
        ids[row, :length] = torch.tensor(window.ids[:length])
        present[row, :length] = 1
    return ids.to(device), present.to(device)


def _few_logits(model: nn.Module) -> dict[str, int]:
    """Nobody looks at the logits: models that can be asked for fewer give one position's."""
    takes = inspect.signature(unwrap(model).forward).parameters
    return {"logits_to_keep": 1} if "logits_to_keep" in takes else {}


@contextmanager
def _watching(model: nn.Module, tensors: Tensors, present: torch.Tensor, seen: _Seen) -> Iterator[None]:
    """Hooks on layers, norms and matrices."""
    bare, text = unwrap(model), present.bool()
    watched: list[tuple[nn.Module, Callable[..., None]]] = [
        (bare.get_submodule(layer), partial(_layer_hook, number, text, seen))
        for number, layer in enumerate(tensors.layers)
    ]
    watched += [
        (one.owner, partial(_norm_hook, name, one.parameter.numel(), text, seen))
        for name, one in tensors.norms.items()
    ]
    watched += [
        (matrix.weight.owner, partial(_matrix_hook, matrix, text, seen))
        for matrix in tensors.matrices.values()
        if not matrix.is_stacked
    ]
    handles = [module.register_forward_hook(hook) for module, hook in watched]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layer_hook(number: int, text: torch.Tensor, seen: _Seen, _module: nn.Module, _inputs: Any, output: Any) -> None:
    if (found := _tokens(output, text)) is not None:
        seen.residual[number] = found.float().abs().amax(dim=0)


def _norm_hook(
    name: str, size: int, text: torch.Tensor, seen: _Seen, _module: nn.Module, _inputs: Any, output: Any
) -> None:
    found = _tokens(output, text)
    if found is not None and found.shape[-1] == size:
        peaks = found.float().abs().amax(dim=0)
        seen.outputs[name] = torch.maximum(seen.outputs.get(name, peaks), peaks)


def _matrix_hook(
    matrix: Matrix, text: torch.Tensor, seen: _Seen, _module: nn.Module, inputs: Any, output: Any
) -> None:
    into, out = _tokens(inputs, text), _tokens(output, text)
    if into is not None and out is not None:
        _look_at_matrix(matrix, into.float(), out.float(), seen)


def _tokens(values: Any, text: torch.Tensor) -> torch.Tensor | None:
    """(tokens, dimensions) of the text without padding; None where the shape is another one, as inside of experts."""
    values = values[0] if isinstance(values, tuple) and values else values
    if not isinstance(values, torch.Tensor) or values.shape[:2] != text.shape:
        return None
    return values.detach()[text.to(values.device)].flatten(0, -2)


def _look_at_matrix(matrix: Matrix, into: torch.Tensor, out: torch.Tensor, seen: _Seen) -> None:
    """Which entries carry most, and where spikes of the output come from."""
    values = matrix.values().float()
    if into.shape[-1] != values.shape[1] or out.shape[-1] != values.shape[0] or not len(into):
        return
    carried = values.abs() * into.abs().amax(dim=0)
    typical = carried.median().clamp_min(_TINY)
    seen.entries += largest(matrix.name, "weight", carried / typical, SOURCE, count=_OF_EACH)
    if not matrix.is_writer:
        return
    peaks, places = out.abs().max(dim=0)
    heights = _relative(peaks)
    for row in heights.topk(min(_OF_EACH, len(heights))).indices.tolist():
        parts = (values[row] * into[int(places[row])]).abs()
        column = int(parts.argmax())
        # Above one the entry alone gives more than the whole output, which others then take back.
        share = float(parts[column] / peaks[row].clamp_min(_TINY))
        score = float(heights[row]) * share
        seen.spikes.append(slice_candidate(matrix.name, "weight", (row, column), SOURCE, score))


def _massive(tensors: Tensors, seen: _Seen) -> Iterator[list[Candidate]]:
    """Rows that write the residual dimensions with the largest activations, and gains that read them."""
    if not seen.residual:
        return
    heights = torch.stack([_relative(seen.residual[number]) for number in sorted(seen.residual)])
    growth = heights - torch.cat([torch.zeros_like(heights[:1]), heights[:-1]])
    rows: list[Candidate] = []
    gains: list[Candidate] = []
    top = heights.amax(dim=0).topk(min(_MASSIVE, heights.shape[1])).indices.tolist()
    for dimension in top:
        height, start = float(heights[:, dimension].max()), int(growth[:, dimension].argmax())
        for name, matrix in tensors.matrices.items():
            writes = matrix.is_writer and not matrix.is_stacked and matrix.values().shape[0] == heights.shape[1]
            if writes and tensors.layer(name) == start:
                rows.append(slice_candidate(name, "row", (dimension,), SOURCE, height))
        for name, weight in tensors.norms.items():
            layer = tensors.layer(name)
            reads = weight.parameter.numel() == heights.shape[1] and (layer is None or layer >= start)
            if reads:
                distance = len(tensors.layers) if layer is None else layer - start
                gains.append(norm_candidate(name, dimension, SOURCE, height / (1 + distance)))
    yield rows
    yield gains


def _relative(values: torch.Tensor) -> torch.Tensor:
    return values / values.median().clamp_min(_TINY)
