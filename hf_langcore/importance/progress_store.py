"""Scores of finished languages on disk, so that an interrupted search goes on at the next language."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hf_langcore.data import Blocks
from hf_langcore.files import replace_file
from hf_langcore.masks import Provenance


class ProgressStore:
    """One safetensors file per finished language, named by everything that its scores depend on.

    Scores of other weights, texts or settings have other names and are never mistaken for these.
    """

    def __init__(self, folder: Path, source: Provenance, *, model_digest: str) -> None:
        self._folder = folder
        self._settings = {
            "method": source.method,
            "block_size": source.block_size,
            "batch_size": source.batch_size,
            "names": sorted(source.base_fingerprint.tensors) if source.base_fingerprint else None,
            "model": model_digest,
        }

    def load(self, language: str, blocks: Blocks) -> dict[str, torch.Tensor] | None:
        """The scores of a finished language, or None. A file that cannot be read counts as unfinished."""
        path = self._path(language, blocks)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a dict
        except (SafetensorError, OSError):
            return None

    def save(self, language: str, blocks: Blocks, scores: dict[str, torch.Tensor]) -> None:
        """Keep the scores of a finished language."""
        replace_file(self._path(language, blocks), lambda path: save_file(scores, path))

    def _path(self, language: str, blocks: Blocks) -> Path:
        digest = hashlib.sha256(json.dumps(self._settings, sort_keys=True).encode())
        digest.update(f"{language}|{list(blocks.shape)}|".encode())
        digest.update(blocks.numpy().tobytes())
        return self._folder / f"importance-{digest.hexdigest()[:24]}.safetensors"
