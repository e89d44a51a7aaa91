from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hf_langcore.errors import CoreMaskFormatError
from hf_langcore.exchange.stored import Stored, is_npz, read_npy, read_npz, read_safetensors
from hf_langcore.exchange.stored import damaged as refuse


def test_safetensors(tmp_path: Path) -> None:
    tensors = {"a": torch.tensor([[True, False]]), "b": torch.ones(3, dtype=torch.bfloat16), "c": torch.tensor(2)}
    save_file(tensors, tmp_path / "f")
    found = read_safetensors(tmp_path / "f")
    assert found.keys() == tensors.keys()
    for name, stored in found.items():
        assert (stored.shape, stored.dtype) == (tuple(tensors[name].shape), tensors[name].dtype)
        assert torch.equal(stored.read(), tensors[name])
    whole = (tmp_path / "f").read_bytes()
    for cut in (0, 4, 20, len(whole) - 1):
        (tmp_path / "f").write_bytes(whole[:cut])
        with pytest.raises(CoreMaskFormatError, match="cannot be read"):
            read_safetensors(tmp_path / "f")
    with pytest.raises(CoreMaskFormatError, match="cannot be read"):
        found["a"].read()


def test_dtypes_that_no_mask_has(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, dtype=torch.float8_e4m3fn)}, tmp_path / "f")
    with pytest.raises(CoreMaskFormatError, match="F8_E4M3"):
        read_safetensors(tmp_path / "f")


def test_numpy(tmp_path: Path) -> None:
    """C and Fortran order, compressed or not."""
    arrays = {"x.weight": np.eye(3, dtype=bool), "y": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3))}
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    for path in (tmp_path / "a.npz", tmp_path / "b.npz"):
        assert is_npz(path)
        found = read_npz(path)
        assert {name: stored.shape for name, stored in found.items()} == {"x.weight": (3, 3), "y": (2, 3)}
        assert all(np.array_equal(stored.read().numpy(), arrays[name]) for name, stored in found.items())
    np.save(tmp_path / "a.npy", arrays["y"])
    assert read_npy(tmp_path / "a.npy").read().tolist() == [[0, 1, 2], [3, 4, 5]]


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("made", "w")


@pytest.mark.parametrize(
    "array", [np.array([Hostile()], dtype=object), np.zeros(3, ">i4"), np.zeros(2, "S3"), np.zeros(2, complex)]
)
def test_arrays_that_no_mask_has(
    array: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,  # type: ignore[type-arg]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(CoreMaskFormatError, match="array of dtype"):
        read_npy(tmp_path / "a.npy")
    assert not (tmp_path / "made").exists()


def test_damaged_numpy(tmp_path: Path) -> None:
    """A header that promises a terabyte is only a header: the values are read when their shape was compared."""
    np.save(tmp_path / "a.npy", np.zeros(4, dtype=np.int8))
    whole = (tmp_path / "a.npy").read_bytes()
    huge = whole.replace(b"(4,), }" + b" " * 12, b"(1099511627776,), }")
    (tmp_path / "a.npy").write_bytes(huge)
    assert read_npy(tmp_path / "a.npy").size == 1 << 40
    for damaged in (
        whole[:5],
        whole[:60],
        b"\x93NUMPY\x09\x00" + whole[8:],
        whole.replace(b"False", b"os()_"),
        whole.replace(b"}", b"{"),
    ):
        (tmp_path / "a.npy").write_bytes(damaged)
        with pytest.raises(CoreMaskFormatError, match="cannot be read"):
            read_npy(tmp_path / "a.npy")
    (tmp_path / "a.npy").write_bytes(whole[:-1])
    with pytest.raises(CoreMaskFormatError, match="cannot be read"):
        read_npy(tmp_path / "a.npy").read()
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("a.npy", whole)
        archive.writestr("a", whole)
    with pytest.raises(CoreMaskFormatError, match="two of its members"):
        read_npz(tmp_path / "b.npz")
    assert not is_npz(tmp_path / "b.npz")


def test_a_file_that_changes_is_noticed() -> None:
    with pytest.raises(CoreMaskFormatError, match=r"shape \(2,\) and has \(3,\)"):
        Stored((2,), torch.float32, lambda: torch.zeros(3)).read()


def test_a_header_of_many_bytes_is_not_read(tmp_path: Path) -> None:
    """A few compressed kilobytes must not become hundreds of megabytes."""
    head = b"\x93NUMPY\x02\x00" + (1 << 28).to_bytes(4, "little")
    (tmp_path / "bomb.npy").write_bytes(head + b" " * 100)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", head + b" " * (1 << 26))
    tracemalloc.start()
    try:
        for read, name in ((read_npy, "bomb.npy"), (read_npz, "bomb.npz")):
            with pytest.raises(CoreMaskFormatError, match="cannot be read"):
                read(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_reasons_are_short_and_printable(tmp_path: Path) -> None:
    with pytest.raises(CoreMaskFormatError) as caught:
        refuse(tmp_path / "x", "\x1b[2J" + "n" * 10_000_000)
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()
    assert caught.value.__suppress_context__
