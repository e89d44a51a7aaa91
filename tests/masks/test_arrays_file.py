"""Byte arrays on disk: an ordinary safetensors file, read with suspicion."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from hf_langcore.errors import CoreMaskFormatError
from hf_langcore.masks.arrays_file import read_arrays, write_arrays

ARRAYS = {
    "b:rice": np.arange(7, dtype=np.uint8),
    "a:bits": np.arange(6, dtype=np.uint8).reshape(2, 3),
    "c": np.empty(0, dtype=np.uint8),
}
SHAPES = {name: array.shape for name, array in ARRAYS.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_arrays(tmp_path / "x.safetensors", ARRAYS, metadata={"key": "value"})
    return tmp_path / "x.safetensors"


def test_any_safetensors_reader_can_read_it(path: Path) -> None:
    """Arrays, their shapes and the metadata."""
    read = load_file(path)
    assert read.keys() == ARRAYS.keys()
    assert all(np.array_equal(read[name], ARRAYS[name]) for name in ARRAYS)
    with safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"key": "value"}


def test_it_is_read_back(path: Path, tmp_path: Path) -> None:
    """Also a file that the library wrote; nobody can write into what was read."""
    save_file(ARRAYS, tmp_path / "y")
    for source in (path, tmp_path / "y"):
        read = read_arrays(source, SHAPES)
        assert all(np.array_equal(read[name], ARRAYS[name]) for name in ARRAYS)
        with pytest.raises(ValueError, match="read-only"):
            read["b:rice"][0] = 1


def test_the_order_does_not_matter(path: Path, tmp_path: Path) -> None:
    """The same arrays are the same file."""
    write_arrays(tmp_path / "y", dict(reversed(ARRAYS.items())), metadata={"key": "value"})
    assert (tmp_path / "y").read_bytes() == path.read_bytes()


def refuse(path: Path, problem: str, **shapes: tuple[int, ...]) -> None:
    with pytest.raises(CoreMaskFormatError, match=problem):
        read_arrays(path, SHAPES | shapes)


def test_other_arrays_are_refused(path: Path) -> None:
    """Missing ones, other shapes and other types."""
    refuse(path, "different arrays, the first is 'd'", d=(1,))
    refuse(path, r"'c' .* should be uint8 \(1,\), the file holds U8 \(0,\)", c=(1,))
    save_file(ARRAYS | {"c": np.zeros(0, np.int16)}, path)
    refuse(path, "should be uint8 .* holds I16")
    save_file(ARRAYS | {"stray": np.zeros(1)}, path)
    refuse(path, "the first is 'stray'")


def test_broken_files_are_refused(path: Path) -> None:
    """Truncated, empty, longer than it says, and headers that claim to be huge or are huge."""
    content = path.read_bytes()
    for broken in (b"", content[:5], content[:-1], content + b"x", b"\xff" * 8 + content[8:]):
        path.write_bytes(broken)
        refuse(path, "no readable safetensors file")
    header = json.dumps({"__metadata__": {"x": "y" * 10_000}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    refuse(path, "a header of [0-9]+ bytes for 3 arrays")
