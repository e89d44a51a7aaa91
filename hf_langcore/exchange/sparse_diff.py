"""Sparse differences (cambridgeltl/composable-sft and alike): which weights a sparse fine-tuning changed.

`pytorch_diff.bin` holds for each parameter its shape, the differences that are not zero, and how many positions lie between
them, counted with the first index running fastest; older files hold lists of indices or sparse tensors. Dense differences,
and safetensors with pairs `<parameter>.indices` and `<parameter>.values`, are taken as well.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from hf_langcore.architecture import Weight
from hf_langcore.errors import InputError
from hf_langcore.exchange.names import Parameters
from hf_langcore.exchange.planes import (
    flat_positions,
    not_zero,
    plane_at,
    refuse,
    require_shape,
    whole_numbers,
)
from hf_langcore.exchange.reading import DIFFERENCES, Artifact, content_tensors
from hf_langcore.exchange.stored import Stored, StoredSparse
from hf_langcore.masks import PackedBits

_GIVEN_IN_FULL = ("abs", "head")
_INDICES, _VALUES = ".indices", ".values"
_LARGEST = 1 << 62


def sparse_planes(artifact: Artifact, parameters: Parameters) -> tuple[dict[str, PackedBits], str]:
    """The bits of all weights whose difference is not zero, and what was imported in words.

    The mask covers the parameters that have a difference in the file.

    Raises:
        InputError: There are no differences in the file.
        CoreMaskMismatchError: It is for another model.
        CoreMaskFormatError: It is damaged.
    """
    differences = _differences(artifact)
    planes: dict[str, PackedBits] = {}
    for name, given in differences.items():
        weight = parameters.find(name, source=artifact.name)
        if weight.name in planes:
            refuse(artifact.name, name, f"it stands for {weight.name!r}, as another tensor does")
        planes[weight.name] = _plane(given, weight, artifact.name)
    return planes, "sparse difference's changed weights"


def _differences(artifact: Artifact) -> dict[str, Any]:
    content, name = artifact.content, artifact.name
    if isinstance(content, dict):
        found = next((content[key] for key in DIFFERENCES if isinstance(content.get(key), dict)), None)
        full = [one for key in _GIVEN_IN_FULL for one in (content.get(key) or ())] if found is not None else []
        if full:
            warnings.warn(
                f"{name!r} gives {len(full)} tensors in full and not as differences ({', '.join(map(str, full[:3]))}): they "
                "are left out of the mask, since only the base model could tell which of their weights changed.",
                stacklevel=5,
            )
        found = _paired(content_tensors(content) or {}) if found is None else found
        if found and all(isinstance(key, str) for key in found):
            return dict(found)
    raise InputError(
        f"{name!r} holds no differences: expected pytorch_diff.bin of composable-sft, or differences by parameter name."
    )


def _paired(tensors: Mapping[str, Stored | StoredSparse]) -> dict[str, Any]:
    """Tensors by parameter, pairs of indices and values together."""
    found: dict[str, Any] = {}
    for name, stored in tensors.items():
        bare = name.removesuffix(_INDICES)
        values = tensors.get(f"{bare}{_VALUES}")
        if name.endswith(_INDICES) and values is not None:
            found[bare] = {"indices": stored, "values": values}
        elif not (name.endswith(_VALUES) and f"{name.removesuffix(_VALUES)}{_INDICES}" in tensors):
            found[name] = stored
    return found


def _plane(given: Any, weight: Weight, source: str) -> PackedBits:
    name, shape = weight.name, weight.shape
    if isinstance(given, Stored):
        require_shape(source, name, given.shape, shape)
        return PackedBits.from_bool(not_zero(given, source=source, name=name))
    if isinstance(given, StoredSparse):
        given = {"size": given.shape, "indices": given.indices, "values": given.values}
    if not isinstance(given, dict) or not ("indices" in given or "index_steps" in given):
        refuse(source, name, f"a difference is a {type(given).__name__} without indices")
    if "size" in given:
        require_shape(source, name, tuple(given["size"]) if isinstance(given["size"], (tuple, list)) else (), shape)
    changed = _changed(given.get("values"), math.prod(shape), source, name)
    if "indices" in given:
        places = _coordinates(given["indices"], changed.numel(), len(shape), source, name)
        flat = flat_positions(places, shape, source=source, name=name)
        return plane_at(flat, shape, source=source, name=name, chosen=changed)
    steps = _numbers(given["index_steps"], changed.numel(), source, name)
    if steps.numel() and (int(steps[0]) < 0 or int(steps.max()) > math.prod(shape) or bool((steps[1:] < 1).any())):
        refuse(source, name, "the steps between its positions are not positive or too large")
    return plane_at(steps.cumsum(0), shape, source=source, name=name, chosen=changed, column_major=True)


def _changed(values: Any, most: int, source: str, name: str) -> torch.Tensor:
    """Which of the listed differences are not zero."""
    if isinstance(values, list) and len(values) <= most and all(map(_is_number, values)):
        listed = torch.tensor([float(one) for one in values], dtype=torch.float64)
        values = Stored((len(values),), torch.float64, lambda: listed)
    if not isinstance(values, Stored) or len(values.shape) != 1 or values.size > most:
        refuse(source, name, f"expected at most {most:,} differences in one row")
    return not_zero(values, source=source, name=name)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) < _LARGEST)


def _coordinates(indices: Any, entries: int, dimensions: int, source: str, name: str) -> torch.Tensor:
    """(dimensions, entries), int64."""
    if isinstance(indices, Stored):
        if indices.shape not in {(dimensions, entries), (entries,)}:
            refuse(source, name, f"its indices have shape {indices.shape}, expected ({dimensions}, {entries})")
        return whole_numbers(indices, source=source, name=name).view(-1, entries)
    if not isinstance(indices, (list, tuple)) or len(indices) != dimensions:
        refuse(source, name, f"expected {dimensions} rows of indices")
    return torch.stack([_numbers(row, entries, source, name) for row in indices])


def _numbers(given: Any, entries: int, source: str, name: str) -> torch.Tensor:
    """(entries,), int64, of a list or a tensor."""
    if isinstance(given, Stored) and given.shape == (entries,):
        return whole_numbers(given, source=source, name=name)
    is_list = isinstance(given, (list, tuple)) and len(given) == entries
    if not is_list or not all(type(one) is int and _is_number(one) for one in given):
        refuse(source, name, f"expected {entries:,} whole numbers that say where its differences are")
    return torch.tensor(list(given), dtype=torch.int64)
