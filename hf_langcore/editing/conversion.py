"""Checkpoints in the form that transformers' files have, written shard by shard.

Transformers keeps some weights in another form than its files do (experts of a mixture are one tensor in memory, many
in the file) and turns a whole state dict back when it saves. Here it does that twice: once with tensors that have no
values but remember where they come from, which tells what each tensor of a file needs, and again for a few of them,
with values for what these need and none for the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch.utils._pytree import tree_leaves
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME

from hf_langcore.errors import UnsupportedModelError
from hf_langcore.files import replace_text

CONFIG = "config.json"
"""Without this file nobody can load a checkpoint."""

MODEL_WEIGHTS = r"(pytorch_)?model(-\d+-of-\d+)?\.(safetensors|bin)(\.index\.json)?"
"""Regular expression for the names of the files that hold weights."""


class FileForm:
    """How the tensors of a model's state dict become those of its files.

    Attributes:
        layout: Name in the files -> tensor without values (on the meta device) of the right shape and dtype.
        sources: Name in the files -> names in the state dict of the tensors that it is made of.

    Args:
        model: A transformers model.
        stored: Its state dict, or what stands for it; only shapes and dtypes are used.
        convert: False for files that hold the weights as the model does.

    Raises:
        UnsupportedModelError: The conversion looks at values.
    """

    def __init__(self, model: Any, stored: Mapping[str, torch.Tensor], *, convert: bool = True) -> None:
        self._model = model
        self._stored = stored
        traced = {name: _Traced.of(name, each) for name, each in stored.items()}
        try:
            result = revert_weight_conversion(model, dict(traced)) if convert else dict(traced)
        except Exception as error:
            raise UnsupportedModelError(
                f"transformers cannot turn the weights of {type(model).__name__} into the form of its files one by one "
                f"({type(error).__name__}: {error})."
            ) from error
        self.layout = without_values(result)
        self.sources: dict[str, frozenset[str]] = {
            key: getattr(value, "sources", frozenset()) for key, value in result.items()
        }
        names = {id(each): name for name, each in traced.items()}
        # What is only renamed comes back as the very object that went in.
        self._renamed = {key: names[id(value)] for key, value in result.items() if id(value) in names}

    def convert(self, value_of: Callable[[str], torch.Tensor], keys: Sequence[str]) -> dict[str, torch.Tensor]:
        """Some of the files' tensors, contiguous.

        Args:
            value_of: Gives the tensor of a name in the state dict; asked only for those that are needed.
            keys: Names in the files.
        """
        found = {key: value_of(self._renamed[key]).contiguous() for key in keys if key in self._renamed}
        return found | self._convert(value_of, [key for key in keys if key not in self._renamed])

    def _convert(self, value_of: Callable[[str], torch.Tensor], keys: list[str]) -> dict[str, torch.Tensor]:
        if not keys:
            return {}
        needed = frozenset().union(*(self.sources[key] for key in keys))
        partial = {
            name: value_of(name) if name in needed else torch.empty_like(each, device="meta")
            for name, each in self._stored.items()
        }
        result = revert_weight_conversion(self._model, partial)
        return {key: result[key].contiguous() for key in keys}


def without_values(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of the same shapes and dtypes on the meta device."""
    return {name: torch.empty(each.shape, dtype=each.dtype, device="meta") for name, each in tensors.items()}


def save_shards(
    folder: Path,
    layout: Mapping[str, torch.Tensor],
    tensors_of: Callable[[Sequence[str]], dict[str, torch.Tensor]],
    *,
    max_shard_size: int | str,
    metadata: Mapping[str, Any],
) -> None:
    """Write the weights of a checkpoint, one shard at a time, and the index where there are several.

    Args:
        folder: Where to.
        layout: Name -> tensor without values, all tensors of the checkpoint.
        tensors_of: Gives the tensors of one shard; its memory is free again when the next one is asked for.
        max_shard_size: Bytes, or a string such as "5GB".
        metadata: What the index says besides the total size.
    """
    split = split_torch_state_dict_into_shards(dict(layout), max_shard_size=max_shard_size)
    for file, keys in split.filename_to_tensors.items():
        save_file(tensors_of(keys), folder / file, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": {**metadata, **split.metadata}, "weight_map": split.tensor_to_filename}
        replace_text(folder / SAFE_WEIGHTS_INDEX_NAME, json.dumps(index, indent=2, sort_keys=True) + "\n")


class _Traced(torch.Tensor):
    """A tensor without values that remembers of which tensors it is made, whatever is done with it.

    Attributes:
        sources: Their names.
    """

    sources: frozenset[str]

    @staticmethod
    def of(name: str, tensor: torch.Tensor) -> _Traced:
        traced = torch.empty_like(tensor.detach(), device="meta").as_subclass(_Traced)
        traced.sources = frozenset([name])
        return traced

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]
        parts = [part for part in tree_leaves((args, kwargs)) if isinstance(part, _Traced)]
        sources: frozenset[str] = frozenset().union(*(getattr(part, "sources", ()) for part in parts))
        for made in tree_leaves(result):
            if isinstance(made, _Traced):
                made.sources = sources
        return result
