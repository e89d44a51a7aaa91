from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.errors import CoreMaskFormatError
from hf_langcore.exchange import torch_files
from hf_langcore.exchange.stored import Stored, StoredSparse
from hf_langcore.exchange.torch_files import read_torch_file

Save = Callable[..., Path]

DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
    torch.float32, torch.float64,
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_reads_what_torch_reads(dtype: torch.dtype, saved: Save) -> None:
    """Of every dtype: views, parameters and tensors without entries too, as torch's own safe loader has them."""
    base = torch.arange(24).remainder(2).to(dtype).view(4, 6)
    content: dict[str, Any] = {"a": base, "t": base.t(), "part": base[1:3, ::2], "none": base[:0], "one": base[0, 1]}
    if dtype.is_floating_point:
        content["p"] = torch.nn.Parameter(base)
    path = saved(content)
    theirs = torch.load(path, weights_only=True)
    ours = read_torch_file(path)
    assert ours.keys() == theirs.keys()
    for name, stored in ours.items():
        assert (stored.shape, stored.dtype) == (tuple(theirs[name].shape), dtype)
        assert torch.equal(stored.read(), theirs[name])


@given(st.lists(st.lists(st.lists(st.integers(0, 2**40), max_size=5), max_size=3), max_size=3))
def test_nested_lists_of_tensors(tmp_path_factory: pytest.TempPathFactory, numbers: list[list[list[int]]]) -> None:
    path = tmp_path_factory.mktemp("lists") / "file"
    torch.save([[torch.tensor(one, dtype=torch.int64) for one in layers] for layers in numbers], path)
    assert [[one.read().tolist() for one in layers] for layers in read_torch_file(path)] == numbers


def test_sparse_tensors(saved: Save) -> None:
    dense = torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    found = read_torch_file(saved({"d": dense.to_sparse().coalesce()}))["d"]
    assert isinstance(found, StoredSparse)
    assert found.shape == (2, 2)
    again = torch.sparse_coo_tensor(found.indices.read(), found.values.read(), found.shape, check_invariants=True)
    assert torch.equal(again.to_dense(), dense)


def test_reading_waits(saved: Save) -> None:
    """Opening a file reads no values, so that what is damaged is found when it is asked for."""
    path = saved({"a": torch.ones(1000)})
    stored: Stored = read_torch_file(path)["a"]
    content = bytearray(path.read_bytes())
    place = content.index(torch.ones(4).numpy().tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(CoreMaskFormatError, match=r"data/0' was truncated or altered"):
        stored.read()


def test_files_that_are_none(tmp_path: Path, saved: Save) -> None:
    path = saved([torch.ones(3)])
    whole = path.read_bytes()
    for cut in (len(whole) - 1, len(whole) // 2, 30):
        path.write_bytes(whole[:cut])
        with pytest.raises(CoreMaskFormatError, match="cannot be read"):
            read_torch_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello", "x")
    with pytest.raises(CoreMaskFormatError, match=r"not written by torch\.save"):
        read_torch_file(path)


def test_compressed_members_are_refused(saved: Save, rewritten: Save) -> None:
    """A compressed member of a few bytes may be of any size."""
    with pytest.raises(CoreMaskFormatError, match="is compressed, encrypted or larger"):
        read_torch_file(rewritten(saved({"a": torch.zeros(10_000)}), compress=True))


def test_sizes_have_to_agree(saved: Save, rewritten: Save) -> None:
    path = saved({"a": torch.zeros(8)})
    with pytest.raises(CoreMaskFormatError, match="declares 8 values"):
        read_torch_file(rewritten(path, **{"0": b"1234"}))
    with pytest.raises(CoreMaskFormatError, match="values '0' of a tensor are missing"):
        read_torch_file(rewritten(path, **{"0": None}))


def test_other_machines_and_large_pickles(saved: Save, rewritten: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved({"a": torch.zeros(8)})
    monkeypatch.setattr(torch_files, "_LARGEST_PICKLE", 10)
    with pytest.raises(CoreMaskFormatError, match="pickle is larger"):
        read_torch_file(path)
    monkeypatch.undo()
    with pytest.raises(CoreMaskFormatError, match="big-endian"):
        read_torch_file(rewritten(path, byteorder=b"big"))
    assert read_torch_file(rewritten(path, byteorder=None))["a"].shape == (8,)


def test_two_members_of_one_name(saved: Save) -> None:
    path = saved({"a": torch.zeros(8)})
    with zipfile.ZipFile(path) as archive:
        name = next(one for one in archive.namelist() if one.endswith("data/0"))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"\1" * 32)
    with pytest.raises(CoreMaskFormatError, match="members of"):
        read_torch_file(path)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, place: int, change: int
) -> None:
    """What is read is what was written, or nothing."""
    path = tmp_path_factory.mktemp("flip") / "file"
    expected = torch.tensor([3, 1, 4])
    torch.save([[expected]], path)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= change
    path.write_bytes(content)
    try:
        found = read_torch_file(path)[0][0].read()
    except (CoreMaskFormatError, LookupError, AttributeError, TypeError):
        return  # a pickle that says something else may still be one
    assert found.shape[0] <= 3
