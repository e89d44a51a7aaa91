"""Foreign files in many forms, and masks to put into them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_langcore.architecture import decoder_weights
from hf_langcore.masks import CoreMask


@pytest.fixture
def make_mask() -> Callable[..., CoreMask]:
    """A random mask of all decoder tensors of a model, equal for equal seeds."""

    def make(model: Any, *, density: float = 0.1, seed: int = 0) -> CoreMask:
        generator = torch.Generator().manual_seed(seed)
        shapes = {name: weight.shape for name, weight in decoder_weights(model).items()}
        return CoreMask({name: torch.rand(shape, generator=generator) < density for name, shape in shapes.items()})

    return make


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """`torch.save` into a fresh file."""

    def save(content: Any, name: str = "foreign.pth", **options: Any) -> Path:
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return save


@pytest.fixture
def rewritten() -> Callable[..., Path]:
    """Write an archive again with some members replaced, or compressed; None leaves a member out."""

    def rewrite(path: Path, *, compress: bool = False, **members: bytes | None) -> Path:
        method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
        with zipfile.ZipFile(path) as archive:
            old = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in old.items():
                key = name.rsplit("/", 1)[-1].replace(".", "_")
                kept = members.get(key, content)
                if kept is not None:
                    archive.writestr(name, kept)
        return path

    return rewrite
