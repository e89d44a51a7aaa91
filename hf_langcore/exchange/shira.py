"""SHiRA adapters (PEFT): which single weights an adapter trains."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import PurePath

import torch

from hf_langcore.architecture import Weight
from hf_langcore.errors import CoreMaskFormatError, InputError
from hf_langcore.exchange.names import Parameters
from hf_langcore.exchange.planes import (
    flat_positions,
    not_zero,
    plane_at,
    refuse,
    require_shape,
    whole_numbers,
)
from hf_langcore.exchange.reading import SHIRA_INDICES, SHIRA_WEIGHT, Artifact, content_tensors
from hf_langcore.exchange.stored import Stored
from hf_langcore.masks import PackedBits

_MATRIX = 2


def shira_planes(artifact: Artifact, parameters: Parameters) -> tuple[dict[str, PackedBits], str]:
    """The bits of all weights that the adapter trains, and what was imported in words.

    The mask covers the layers that the adapter targets, and the modules that it trains in full, as full planes.

    Raises:
        InputError: It is no SHiRA adapter.
        CoreMaskMismatchError: It is for another model.
        CoreMaskFormatError: It is damaged, or does not say where its weights are.
    """
    tensors = dict(content_tensors(artifact.content) or {})
    layers = list(dict.fromkeys(_layer(name) for name in tensors if name.endswith((SHIRA_WEIGHT, SHIRA_INDICES))))
    if not layers:
        raise InputError(
            f"{artifact.name!r} holds no SHiRA weights: expected tensors ending in {SHIRA_WEIGHT} and {SHIRA_INDICES}."
        )
    planes: dict[str, PackedBits] = {}
    for layer in layers:
        weight = parameters.find(f"{layer}.weight", source=artifact.name)
        _require_new(weight.name, planes, artifact.name)
        values, indices = tensors.pop(f"{layer}.{SHIRA_WEIGHT}", None), tensors.pop(f"{layer}.{SHIRA_INDICES}", None)
        planes[weight.name] = _plane(values, indices, weight, artifact.name)
    for name, stored in tensors.items():  # of modules that are trained in full
        weight = parameters.find(name, source=artifact.name)
        require_shape(artifact.name, name, stored.shape, weight.shape)
        _require_new(weight.name, planes, artifact.name)
        planes[weight.name] = PackedBits.from_bool(torch.ones(weight.shape, dtype=torch.bool))
    base = artifact.config.get("base_model_name_or_path")
    return planes, f"shira adapter's trained weights{f' of {_public(base)}' if isinstance(base, str) and base else ''}"


def _public(name: str) -> str:
    """A repository as it is; of a folder of somebody's machine only the last part."""
    shown = name if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) else PurePath(name.replace("\\", "/")).name
    return shown[:200]


def _layer(name: str) -> str:
    return name.rsplit(".", 1)[0]


def _require_new(name: str, planes: Mapping[str, PackedBits], source: str) -> None:
    if name in planes:
        refuse(source, name, "two of its tensors stand for this parameter")


def _plane(values: object, indices: object, weight: Weight, source: str) -> PackedBits:
    """The bits of one layer; rows and columns in the file are those of nn.Linear."""
    name, size = weight.name, math.prod(weight.shape)
    if len(weight.shape) != _MATRIX:
        refuse(source, name, f"the parameter has shape {weight.shape}, and SHiRA changes matrices")
    if not isinstance(values, Stored) or not isinstance(indices, Stored):
        raise CoreMaskFormatError(
            f"{source!r} has no {SHIRA_WEIGHT} or no {SHIRA_INDICES} for {name!r}, so it does not say which weights it "
            "trains. Save the adapter again with a PEFT that writes both."
        )
    if values.shape != (values.size,) or indices.shape != (2, values.size) or values.size > size:
        refuse(
            source, name, f"its values have shape {values.shape} and its indices {indices.shape}, in {size:,} weights"
        )
    not_zero(values, source=source, name=name)  # refuses NaN and infinity; weights that are zero are trained, too
    rows, columns = whole_numbers(indices, source=source, name=name)
    places = torch.stack([columns, rows] if weight.is_transposed else [rows, columns])
    flat = flat_positions(places, weight.shape, source=source, name=name)
    return plane_at(flat, weight.shape, source=source, name=name)
