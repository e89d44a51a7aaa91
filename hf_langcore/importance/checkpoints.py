"""Importance from checkpoints of further pretraining: the core are the weights that change least.

Source: the talk behind Zhang et al., ACL 2024, and `get_diff_tensor` of the published code: abs(change) / abs(weight)
per language, summed over languages; the smallest are the core, so select with `which="bottom"`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from tqdm.auto import tqdm

from hf_langcore.architecture import Extra, bare_weights, decoder_weights
from hf_langcore.binding import provenance_of
from hf_langcore.errors import CoreMaskMismatchError, InputError, NonFiniteError
from hf_langcore.masks import ImportanceScores

Reader = Callable[[str], torch.Tensor]

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"


def importance_from_checkpoints(
    base: nn.Module | str | Path,
    checkpoints: Mapping[str, nn.Module | str | Path],
    *,
    include: Extra | Iterable[Extra] = (),
    progress: bool = True,
) -> ImportanceScores:
    """Score weights by how much they change when the model is trained further in each language.

    The score is abs(dW) / abs(W) per language, summed over languages; a weight that is 0 and stays 0 scores 0, one
    that was 0 and moved scores infinity. Checkpoints in folders are read tensor by tensor.

    Args:
        base: The model before, or a folder or Hub id that transformers can load.
        checkpoints: Language -> the model trained further in it, or a folder with its safetensors files.
        include: "embeddings" or "lm_head" too.
        progress: Show a progress bar.

    Returns:
        Scores with the method "weight_change"; use `CoreMask.from_scores(scores, fraction=..., which="bottom")`.

    Raises:
        InputError: There is no checkpoint, or a folder holds no safetensors weights.
        CoreMaskMismatchError: A checkpoint has other tensors than the base.
        NonFiniteError: A checkpoint holds NaN or infinity.
    """
    if not checkpoints:
        raise InputError(
            'checkpoints must map language codes to models or folders, such as {"zh": "out/zh"}; got none.'
        )
    model = base if isinstance(base, nn.Module) else _load(base)
    weights = decoder_weights(model, include=include)
    total = {name: torch.zeros(weight.parameter.shape, dtype=torch.float32) for name, weight in weights.items()}
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    with tqdm(total=len(checkpoints) * len(total), unit="tensor", disable=not progress) as bar:
        for language, checkpoint in checkpoints.items():
            bar.set_description(f"weight change {language}")
            read = _reader(language, checkpoint, prefix)
            for name, weight in weights.items():
                total[name] += _relative_change(language, name, weight.parameter, read(name))
                bar.update()
    source = provenance_of(model, weights, method="weight_change")
    return ImportanceScores(total, provenance=replace(source, tokens=dict.fromkeys(checkpoints, 0)))


def _load(name: str | Path) -> nn.Module:
    from transformers import AutoModelForCausalLM

    model: nn.Module = AutoModelForCausalLM.from_pretrained(name, dtype="auto")
    return model


def _relative_change(language: str, name: str, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    if before.shape != after.shape:
        raise CoreMaskMismatchError(
            f"{name!r} has shape {tuple(before.shape)} in the base and {tuple(after.shape)} in the checkpoint of "
            f"{language!r}. Pass checkpoints that were trained from this base."
        )
    old, new = before.detach().to("cpu", torch.float32), after.detach().to("cpu", torch.float32)
    if not torch.isfinite(new).all():
        raise NonFiniteError(f"{name!r} of the {language!r} checkpoint holds NaN or infinity: that run broke down.")
    change = (new - old).abs()
    return torch.where(change == 0, 0.0, change / old.abs())


def _reader(language: str, checkpoint: nn.Module | str | Path, prefix: str) -> Reader:
    """A function that gives one tensor of a checkpoint by its name in the bare model."""
    if isinstance(checkpoint, nn.Module):
        weights = bare_weights(checkpoint)
        return lambda name: _named(language, weights, name).parameter
    files = _tensor_files(language, Path(checkpoint))

    def read(name: str) -> torch.Tensor:
        stored = name if name in files else name.removeprefix(prefix)
        with safe_open(_named(language, files, stored), framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(stored)
            return tensor

    return read


def _tensor_files(language: str, folder: Path) -> dict[str, Path]:
    if (folder / _INDEX).is_file():
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        return {name: folder / file for name, file in index["weight_map"].items()}
    if (folder / _SINGLE).is_file():
        with safe_open(folder / _SINGLE, framework="pt") as file:
            return dict.fromkeys(file.keys(), folder / _SINGLE)
    raise InputError(
        f"The checkpoint of {language!r}, {str(folder)!r}, has neither {_SINGLE} nor {_INDEX}. Save it with "
        "model.save_pretrained(folder)."
    )


def _named(language: str, tensors: Mapping[str, Any], name: str) -> Any:
    if name not in tensors:
        raise CoreMaskMismatchError(
            f"The checkpoint of {language!r} has no tensor {name!r}. Pass checkpoints that were trained from this base."
        )
    return tensors[name]
