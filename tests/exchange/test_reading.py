from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_langcore.errors import CoreMaskFormatError, InputError
from hf_langcore.exchange.reading import Artifact, check_format, content_tensors, open_artifact, recognise
from hf_langcore.exchange.stored import Stored

Save = Callable[..., Path]


def one(dtype: torch.dtype = torch.bool) -> torch.Tensor:
    return torch.ones(2, 2, dtype=dtype)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([[torch.tensor([1])]], "lape"),
        ([torch.tensor([1])], "lape"),
        ({"zh": [torch.tensor([1])]}, "lape"),
        ({"diffs": {}, "abs": {}}, "sparse_diff"),
        ({"body": {"w": one(torch.float32)}}, "sparse_diff"),
        ({"w": one(torch.float32).to_sparse().coalesce()}, "sparse_diff"),
        ({"w.indices": torch.tensor([[1]]), "w.values": torch.ones(1)}, "sparse_diff"),
        ({"w": one(), "v": one(torch.uint8)}, "tensors"),
        ({"state_dict": {"w": one()}}, "tensors"),
        ({"m.shira_weight": torch.ones(1), "m.shira_indices": torch.ones(2, 1)}, "shira"),
    ],
)
def test_formats_by_content(content: Any, expected: str, saved: Save) -> None:
    """The name of the file says nothing."""
    assert recognise(open_artifact(saved(content, "any-name"))) == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"w": one(torch.float32)}, "floating-point"),
        ({"w": one(), "v": one(torch.bfloat16)}, "floating-point"),
        ({}, "no known format"),
        (3, "no known format"),
        ("text", "no known format"),
        ({"w": 3}, "no known format"),
        ({1: one()}, "no known format"),
        ({"a": {"b": {"c": one()}}}, "no known format"),
    ],
)
def test_what_is_not_known_or_ambiguous(content: Any, reason: str, saved: Save) -> None:
    with pytest.raises(InputError, match=reason):
        recognise(open_artifact(saved(content)))


def test_a_bare_tensor_is_called_like_its_file(saved: Save) -> None:
    artifact = open_artifact(saved(one(), "model.layers.0.w.weight.pt"))
    assert list(artifact.content) == ["model.layers.0.w.weight"]
    assert artifact.name == "model.layers.0.w.weight.pt"


@pytest.mark.parametrize("size", [80, 128, 147])
def test_safetensors_of_any_header(size: int, tmp_path: Path) -> None:
    """They begin with the length of their header, whose first byte may be a pickle's or numpy's."""
    header = json.dumps({"w": {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2]}}).encode().ljust(size)
    (tmp_path / "f").write_bytes(size.to_bytes(8, "little") + header + b"\1\0")
    assert open_artifact(tmp_path / "f").content["w"].read().tolist() == [True, False]


def test_folders(saved: Save, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no mask in"):
        open_artifact(tmp_path)
    saved(one(), "a.pt")
    (tmp_path / "README.md").write_text("not read")
    assert list(open_artifact(tmp_path).content) == ["a"]
    saved({"b": one()}, "b.bin")
    assert set(open_artifact(tmp_path).content) == {"a", "b"}
    saved({"a": one()}, "c.pth")
    with pytest.raises(CoreMaskFormatError, match="holds 'a', which another file"):
        open_artifact(tmp_path)
    saved([one()], "c.pth")
    with pytest.raises(InputError, match="holds no tensors by name"):
        open_artifact(tmp_path)
    (tmp_path / "core_mask_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"load it with CoreMask\.from_pretrained"):
        open_artifact(tmp_path)


def test_places_that_hold_no_file(tmp_path: Path) -> None:
    """Links are followed, as caches of the Hub need, but only to files."""
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "gone.pt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.pt").symlink_to(tmp_path / "loop.pt")
    (tmp_path / "device.pt").symlink_to("/dev/zero")
    for name, reason in [
        ("pipe", "neither a file"),
        ("device", "neither a file"),
        ("gone", "There is no"),
        ("loop", "There is no"),
    ]:
        with pytest.raises(InputError, match=reason):
            open_artifact(tmp_path / f"{name}.pt")
    torch.save({"w": one()}, tmp_path / "blob")
    (tmp_path / "link.pt").symlink_to(tmp_path / "blob")
    assert list(open_artifact(tmp_path / "link.pt").content) == ["w"]


class Hostile:
    def __reduce__(self) -> Any:
        return open, ("made", "w")


@pytest.mark.parametrize("legacy", [False, True])
def test_old_files_of_torch(legacy: bool, saved: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bare pickles are refused unread."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "old.pth"
    if legacy:
        torch.save({"w": one()}, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(Hostile(), protocol=2))
    with pytest.raises(CoreMaskFormatError, match=r"before torch 1\.6"):
        open_artifact(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"PK\x03\x04", b"\x93NUMPY", b"\x80", b"\xff" * 8 + b"{}", b"{" * 20]
)
def test_other_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(CoreMaskFormatError, match="cannot be read"):
        open_artifact(tmp_path / "file")


def test_files_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"w": one()}, tmp_path / "file")

    def refuse(*_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        open_artifact(tmp_path / "file")


def test_small_parts() -> None:
    assert check_format("lape") == "lape"
    with pytest.raises(InputError, match="or None to recognise it, got 'pickle'"):
        check_format("pickle")
    stored = Stored((1,), torch.bool, one)
    assert content_tensors({"a": {"w": stored}}) == {"w": stored}
    assert content_tensors({"w": stored, "n": 1}) is None
    assert recognise(Artifact("name", {"w": stored}, {"peft_type": "SHIRA"})) == "shira"


def test_an_adapter_config_is_an_ordinary_strict_file(tmp_path: Path) -> None:
    """Neither a pipe, which would be waited for, nor a key that stands twice."""
    os.mkfifo(tmp_path / "adapter_config.json")
    with pytest.raises(CoreMaskFormatError, match="no ordinary file"):
        open_artifact(tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "SHIRA", "peft_type": "LORA"}')
    with pytest.raises(CoreMaskFormatError, match="stands twice"):
        open_artifact(tmp_path)
