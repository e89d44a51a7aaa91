from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hf_langcore.exchange import boolean_file
from hf_langcore.exchange.boolean_file import write_boolean_file
from hf_langcore.masks import CoreMask, PackedBits

SHAPES = st.lists(st.lists(st.integers(0, 9), max_size=3).map(tuple), min_size=1, max_size=4)


@given(SHAPES, st.integers(0, 9))
def test_safetensors_reads_what_is_written(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[int, ...]], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensors = {f"layer.{i}.weight": torch.rand(shape, generator=generator) < 0.5 for i, shape in enumerate(shapes)}
    mask, path = CoreMask(tensors), tmp_path_factory.mktemp("file") / "f"
    write_boolean_file(mask, path)
    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name, tensor in found.items():
        assert tensor.dtype == torch.bool
        assert torch.equal(tensor, tensors[name])
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "core_mask": mask.digest()}


def test_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a tensor is written in several pieces, and where the library would put the same bytes."""
    monkeypatch.setattr(boolean_file, "_PIECE", 3)
    tensors = {"b": torch.rand(7, 11) < 0.5, "a": torch.rand(48) < 0.5, "c": torch.rand(1) < 2}
    write_boolean_file(mask := CoreMask(tensors), tmp_path / "ours")
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt", "core_mask": mask.digest()})
    size = sum(tensor.numel() for tensor in tensors.values())
    assert (tmp_path / "ours").read_bytes()[-size:] == (tmp_path / "theirs").read_bytes()[-size:]


def test_memory_does_not_grow_with_the_mask(tmp_path: Path) -> None:
    """A file of 80 MB is written with less than the 17 MB that one piece takes, unpacked and as bytes."""
    plane = PackedBits.from_bool(torch.zeros(20_000_000, dtype=torch.bool))
    mask = CoreMask(dict.fromkeys(["a", "b", "c", "d"], plane))
    tracemalloc.start()
    write_boolean_file(mask, tmp_path / "f")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "f").stat().st_size > 80_000_000
    assert peak < 2.2 * 8 * boolean_file._PIECE
