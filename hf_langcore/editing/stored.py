"""Checkpoints on disk whose tensors are read one at a time, under the names of their files or of the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from hf_langcore.architecture import aliases
from hf_langcore.auto import auto_class_of
from hf_langcore.editing.conversion import CONFIG, FileForm
from hf_langcore.errors import CoreMaskMismatchError, InputError, UnsupportedModelError

_NOT_NEEDED = ["*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "original/*", "checkpoint-*/*"]


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint that is not loaded.

    Attributes:
        folder: Where its files lie.
        config: Its config.json.
        model: Its model without values (on the meta device): names, shapes and ties.
        layout: Name in the files -> tensor without values.
    """

    folder: Path
    config: dict[str, Any]
    model: Any
    layout: dict[str, torch.Tensor]
    _files: Mapping[str, Path]

    @classmethod
    def open(cls, source: str | Path, *, revision: str | None, trust_remote_code: bool) -> StoredCheckpoint:
        """Look at a folder written by `save_pretrained`, or at a repository on the Hub, which is downloaded.

        Raises:
            InputError: There is no such checkpoint, or its files are damaged.
            UnsupportedModelError: It is quantised, has no safetensors, or is no causal language model.
        """
        folder = _folder(source, revision)
        config = _read_json(folder / CONFIG, folder)
        if "quantization_config" in config:
            raise UnsupportedModelError(
                f"{str(source)!r} is quantised: its files hold codes, not weights, so a core cannot be taken from them. "
                "Name checkpoints in float32, bfloat16 or float16."
            )
        files = _files(folder)
        return cls(folder, config, _skeleton(folder, trust_remote_code), _layout(files), files)

    def read(self, name: str) -> torch.Tensor:
        """A tensor of the files; only what is looked at is read from the disk."""
        # Opened anew each time: a mapping that stays open counts all that was ever read as memory in use.
        with safe_open(self._files[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        return tensor

    def value_of(self, name: str) -> torch.Tensor:
        """A parameter in the form that the model has it."""
        shape = self.shapes[name]
        found = torch.empty(0)
        for key in self.keys_of(name):
            part = self.read(self.stored_name(key)).reshape(-1)
            found = found if found.numel() else torch.empty(shape.numel(), dtype=part.dtype)
            place = self._places(name, key).reshape(-1)
            found[place[place >= 0]] = part[place >= 0]
        return found.view(shape)

    def keys_of(self, name: str) -> list[str]:
        """The keys in `form.layout` that are made of a parameter, under its own or another tied name, and are stored."""
        return [key for key in self._keys.get(name, []) if self.find(key) is not None]

    def stored_name(self, key: str) -> str:
        """The name in the files that stands for a key of `form.layout`.

        Raises:
            CoreMaskMismatchError: There is none.
        """
        name = self.find(key)
        if name is None:
            raise CoreMaskMismatchError(
                f"{str(self.folder)!r} has no tensor {key!r}, in which the mask has core weights; it has "
                f"{next(iter(self.layout), 'none')!r} and {len(self.layout) - 1} others. Name checkpoints of one model, in "
                "the form in which save_pretrained of this version of transformers writes them."
            )
        return name

    def find(self, key: str) -> str | None:
        """As `stored_name`, or None. Files may lack the model's prefix, or have it in addition."""
        prefix = f"{self.model.base_model_prefix}."
        candidates = (key, f"{prefix}{key}", key.removeprefix(prefix))
        return next((name for name in candidates if name in self.layout), None)

    @cached_property
    def shapes(self) -> dict[str, torch.Size]:
        """Shape of every tensor in the model's state dict."""
        return {name: tensor.shape for name, tensor in self.model.state_dict().items()}

    @cached_property
    def ties(self) -> dict[str, str]:
        """Second names of tied parameters -> the first."""
        return aliases(self.model)

    @cached_property
    def form(self) -> FileForm:
        """How the model's parameters are laid out in these files: as transformers writes them, or as they are."""
        state = self.model.state_dict()
        converted = FileForm(self.model, state)
        as_they_are = FileForm(self.model, state, convert=False)
        return max(converted, as_they_are, key=lambda form: sum(self.find(key) is not None for key in form.layout))

    @cached_property
    def _keys(self) -> dict[str, list[str]]:
        """Parameter -> keys in `form.layout` that are made of it."""
        keys: dict[str, list[str]] = {}
        for key, sources in self.form.sources.items():
            for name in {self.ties.get(source, source) for source in sources}:
                keys.setdefault(name, []).append(key)
        return keys

    def _places(self, name: str, key: str) -> torch.Tensor:
        """For each entry of a tensor of the files its place in a parameter, -1 where it comes from another one."""

        def numbered(source: str) -> torch.Tensor:
            shape = self.shapes[source]
            if self.ties.get(source, source) != name:
                return torch.full(shape, -1, dtype=torch.int64)
            return torch.arange(shape.numel()).view(shape)

        return self.form.convert(numbered, [key])[key]


def _folder(source: str | Path, revision: str | None) -> Path:
    if Path(source).is_dir():
        return Path(source).resolve()
    try:
        return Path(snapshot_download(str(source), revision=revision, ignore_patterns=_NOT_NEEDED))
    except Exception as error:
        raise InputError(
            f"{str(source)!r} is neither a folder in {str(Path.cwd())!r} nor a repository that can be downloaded "
            f"({type(error).__name__}: {error}). Name a folder written by save_pretrained, or a Hub id."
        ) from error


def _skeleton(folder: Path, trust_remote_code: bool) -> Any:  # noqa: FBT001 passed on
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            return auto_class_of(config).from_config(config, trust_remote_code=trust_remote_code)
    except (ValueError, OSError, ImportError) as error:
        raise UnsupportedModelError(
            f"{str(folder)!r} is no language model that transformers can build: {error}"
        ) from error


def _files(folder: Path) -> dict[str, Path]:
    """Name of every tensor -> its file."""
    whole, index = folder / SAFE_WEIGHTS_NAME, folder / SAFE_WEIGHTS_INDEX_NAME
    if whole.is_file():
        with _opened(whole) as file:
            return dict.fromkeys(file.keys(), whole)
    if not index.is_file():
        hint = (
            "It holds an adapter: merge it first (save_merged). " if (folder / "adapter_config.json").exists() else ""
        )
        raise UnsupportedModelError(
            f"{str(folder)!r} has neither {SAFE_WEIGHTS_NAME} nor {SAFE_WEIGHTS_INDEX_NAME}. {hint}Load the model and save "
            "it again: save_pretrained writes safetensors."
        )
    names = _read_json(index, folder).get("weight_map") or {}
    return {str(name): folder / Path(str(file)).name for name, file in names.items()}


def _layout(files: Mapping[str, Path]) -> dict[str, torch.Tensor]:
    layout: dict[str, torch.Tensor] = {}
    for path in dict.fromkeys(files.values()):
        with _opened(path) as file:
            present = set(file.keys())
            missing = [name for name, place in files.items() if place == path and name not in present]
            if missing:
                raise InputError(f"{str(path)!r} lacks the tensor {missing[0]!r} that the index says is in it.")
            for name in present & files.keys():
                layout[name] = torch.empty_like(file.get_tensor(name), device="meta")
    return {name: layout[name] for name in files}


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{str(path)!r} is missing or damaged ({error}). Copy or download the checkpoint again."
        ) from error


def _read_json(path: Path, folder: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{str(folder)!r} is no checkpoint: {path.name} is missing or damaged ({error}). Name a folder written by "
            "save_pretrained."
        ) from error
    if not isinstance(found, dict):
        raise InputError(f"{str(path)!r} should hold a JSON object, got {type(found).__name__}.")
    return found
