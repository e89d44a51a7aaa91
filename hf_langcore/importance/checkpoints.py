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
from safetensors import SafetensorError, safe_open
from torch import nn
from tqdm.auto import tqdm

from hf_langcore.architecture import Extra, bare_weights, decoder_weights
from hf_langcore.binding import provenance_of
from hf_langcore.errors import CoreMaskMismatchError, InputError, NonFiniteError
from hf_langcore.masks import ImportanceScores

Reader = Callable[[str], torch.Tensor]

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_UNREADABLE = (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError)
_UNLOADABLE = (SafetensorError, OSError, ValueError, RuntimeError)


def importance_from_checkpoints(
    base: nn.Module | str | Path,
    checkpoints: Mapping[str, nn.Module | str | Path],
    *,
    include: Extra | Iterable[Extra] = (),
    progress: bool = True,
) -> ImportanceScores:
    """Score weights by how much they change when the model is trained further in each language.

    The score is abs(dW) / abs(W) per language, summed over languages; a weight that is 0 and stays 0 scores 0, one
    that was 0 and moved scores infinity. Checkpoints in folders are read tensor by tensor where their tensors are
    named as the model's parameters are; others (mixtures of experts are saved in another layout) are loaded whole,
    one after the other.

    Args:
        base: The model before, or a folder or Hub id that transformers can load.
        checkpoints: Language -> the model trained further in it, or a folder with its safetensors files.
        include: "embeddings" or "lm_head" too.
        progress: Show a progress bar.

    Returns:
        Scores with the method "weight_change"; use `CoreMask.from_scores(scores, fraction=..., which="bottom")`.

    Raises:
        InputError: `checkpoints` is no mapping or empty, the base cannot be loaded, or a folder holds no readable
            safetensors weights.
        CoreMaskMismatchError: A checkpoint has other tensors than the base.
        NonFiniteError: A checkpoint holds NaN or infinity.
    """
    _require_checkpoints(checkpoints)
    model = base if isinstance(base, nn.Module) else _load_base(base)
    weights = decoder_weights(model, include=include)
    total = {name: torch.zeros(weight.parameter.shape, dtype=torch.float32) for name, weight in weights.items()}
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    read: Reader | None
    with tqdm(total=len(checkpoints) * len(total), unit="tensor", disable=not progress) as bar:
        for language, checkpoint in checkpoints.items():
            bar.set_description(f"weight change {language}")
            read = _reader(language, checkpoint, weights, prefix)
            for name, weight in weights.items():
                total[name] += _relative_change(language, name, weight.parameter, read(name))
                bar.update()
            read = None  # it may hold a whole model, and the next one is loaded before the name is given to it
    source = provenance_of(model, weights, method="weight_change")
    return ImportanceScores(total, provenance=replace(source, tokens=dict.fromkeys(checkpoints, 0)))


def _require_checkpoints(checkpoints: Any) -> None:
    got = "none" if isinstance(checkpoints, Mapping) else type(checkpoints).__name__
    if not isinstance(checkpoints, Mapping) or not checkpoints:
        raise InputError(
            f'checkpoints must map language codes to models or folders, such as {{"zh": "out/zh"}}; got {got}.'
        )
    for language, checkpoint in checkpoints.items():
        if not isinstance(checkpoint, (nn.Module, str, Path)):
            raise InputError(
                f"The checkpoint of {language!r} must be a model or a folder, got {type(checkpoint).__name__}."
            )


def _load_base(name: str | Path) -> nn.Module:
    try:
        model, _ = _load(name)
    except _UNLOADABLE as error:
        raise InputError(
            f"base={str(name)!r} cannot be loaded ({type(error).__name__}: {error}). Pass a model, or a folder or Hub id "
            "that AutoModelForCausalLM.from_pretrained takes."
        ) from error
    return model


def _load(name: str | Path) -> tuple[nn.Module, set[str]]:
    """A model, and the names of the parameters that its files do not have and that were made up in loading."""
    from hf_langcore.auto import auto_class_for

    model, info = auto_class_for(name).from_pretrained(name, dtype="auto", output_loading_info=True)
    return model, set(info["missing_keys"])


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


def _reader(language: str, checkpoint: nn.Module | str | Path, names: Iterable[str], prefix: str) -> Reader:
    """A function that gives one tensor of a checkpoint by its name in the bare model."""
    if isinstance(checkpoint, nn.Module):
        return _model_reader(language, checkpoint, set())
    folder = Path(checkpoint)
    files = _tensor_files(language, folder)
    stored = {name: name if name in files else name.removeprefix(prefix) for name in names}
    missing = [name for name, key in stored.items() if key not in files]
    if missing:  # transformers saves some architectures under other names than it loads them
        return _model_reader(language, *_load_checkpoint(language, folder, missing[0]))

    def read(name: str) -> torch.Tensor:
        try:
            with safe_open(files[stored[name]], framework="pt") as file:
                tensor: torch.Tensor = file.get_tensor(stored[name])
                return tensor
        except _UNREADABLE as error:
            raise _damaged(language, files[stored[name]], error) from error

    return read


def _model_reader(language: str, model: nn.Module, made_up: set[str]) -> Reader:
    weights = {name: weight for name, weight in bare_weights(model).items() if name not in made_up}
    return lambda name: _named(language, weights, name).parameter


def _load_checkpoint(language: str, folder: Path, missing: str) -> tuple[nn.Module, set[str]]:
    try:
        return _load(folder)
    except SafetensorError as error:
        raise _damaged(language, folder, error) from error
    except _UNLOADABLE as error:
        raise CoreMaskMismatchError(
            f"The checkpoint of {language!r}, {str(folder)!r}, has no tensor {missing!r}, and transformers cannot load "
            f"the folder as a model either ({type(error).__name__}: {error}). Pass checkpoints that were trained from "
            "this base, saved with model.save_pretrained(folder)."
        ) from error


def _tensor_files(language: str, folder: Path) -> dict[str, Path]:
    """Tensor name -> the file that holds it."""
    index, single = folder / _INDEX, folder / _SINGLE
    if not index.is_file() and not single.is_file():
        raise InputError(
            f"The checkpoint of {language!r}, {str(folder)!r}, has neither {_SINGLE} nor {_INDEX}. Save it with "
            "model.save_pretrained(folder)."
        )
    path = index if index.is_file() else single
    try:
        if path == index:
            weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            return {name: folder / file for name, file in weight_map.items()}
        with safe_open(single, framework="pt") as file:
            return dict.fromkeys(file.keys(), single)
    except _UNREADABLE as error:
        raise _damaged(language, path, error) from error


def _damaged(language: str, path: Path, error: Exception) -> InputError:
    return InputError(
        f"The checkpoint of {language!r} cannot be read: {str(path)!r} is missing, truncated or damaged "
        f"({type(error).__name__}: {error}). Save or download it again."
    )


def _named(language: str, tensors: Mapping[str, Any], name: str) -> Any:
    if name not in tensors:
        raise CoreMaskMismatchError(
            f"The checkpoint of {language!r} has no tensor {name!r}. Pass checkpoints that were trained from this base."
        )
    return tensors[name]
