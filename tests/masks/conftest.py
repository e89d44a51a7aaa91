"""Masks that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hf_langcore.masks import CoreMask, Fingerprint, Provenance

SHAPES = {"a.weight": (32, 64), "b.weight": (33,), "c.experts": (3, 5, 7)}


@pytest.fixture
def make_mask() -> Callable[..., CoreMask]:
    """Masks over three tensors, equal for equal seeds."""

    def make(seed: int = 0, density: float = 0.05) -> CoreMask:
        generator = torch.Generator().manual_seed(seed)
        tensors = {name: torch.rand(shape, generator=generator) < density for name, shape in SHAPES.items()}
        return CoreMask(tensors, provenance=full_provenance(seed))

    return make


@pytest.fixture
def saved(make_mask: Callable[..., CoreMask], tmp_path: Path) -> Path:
    """A folder with mask 0 in it."""
    make_mask().save_pretrained(tmp_path / "mask")
    return tmp_path / "mask"


def full_provenance(seed: int) -> Provenance:
    return Provenance(
        method="taylor",
        which="top",
        fraction=0.05,
        seed=seed,
        tokens={"en": 1024, "zh": 2048},
        block_size=512,
        batch_size=4,
        transposed=("h.0.c_attn.weight",),
        base_model="me/base",
        base_revision="0" * 40,
        base_fingerprint=Fingerprint(dict.fromkeys(SHAPES, "0123456789abcdef")),
        versions={"torch": "2.13.0"},
    )
