"""core_values.safetensors: written once, read when training resumes, believed only by its own mask."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hf_langcore.errors import ConfigurationError
from hf_langcore.training.core_values import CORE_VALUES_FILE, began_from_base, read_core_values, write_core_values

VALUES = {"a.weight": torch.tensor([1.5, float("nan"), -0.0]), "b.weight": torch.ones(2, dtype=torch.bfloat16)}


def test_values_come_back_bit_for_bit(tmp_path: Path) -> None:
    """Dtypes, NaN and -0.0 survive; the file is an ordinary safetensors file."""
    write_core_values(tmp_path / "out", VALUES, digest="abc", from_base=True)
    began = read_core_values(tmp_path / "out", digest="abc")
    read = began.values
    assert began.from_base
    assert {name: value.dtype for name, value in read.items()} == {n: v.dtype for n, v in VALUES.items()}
    assert torch.equal(read["a.weight"].view(torch.int32), VALUES["a.weight"].view(torch.int32))
    with safe_open(tmp_path / "out" / CORE_VALUES_FILE, framework="pt") as file:
        metadata = file.metadata()
    assert len(metadata.pop("content_sha256")) == 64
    assert metadata == {
        "format": "hf_langcore.core_values",
        "format_version": "1",
        "digest": "abc",
        "from_base": "true",
    }


def test_the_file_says_where_the_run_began(tmp_path: Path) -> None:
    """A run on other weights than the mask's is told from one on the base; without a word it is no base."""
    assert began_from_base(tmp_path, digest="abc") is None
    for from_base in (True, False):
        write_core_values(tmp_path, VALUES, digest="abc", from_base=from_base)
        assert read_core_values(tmp_path, digest="abc").from_base is from_base
        assert began_from_base(tmp_path, digest="abc") is from_base
    assert began_from_base(tmp_path, digest="def") is None
    metadata = {"format": "hf_langcore.core_values", "format_version": "1", "digest": "abc"}
    save_file(VALUES, tmp_path / CORE_VALUES_FILE, metadata=metadata)
    assert read_core_values(tmp_path, digest="abc").from_base is False


def test_damage_is_noticed(tmp_path: Path) -> None:
    """Another value, other names, another word in the header; files of before there was a checksum are read."""
    write_core_values(tmp_path, VALUES, digest="abc", from_base=True)
    path = tmp_path / CORE_VALUES_FILE
    content = path.read_bytes()
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert content.count(b"a.weight") == 1
    for damaged in (
        content[:-1] + b"x",
        content.replace(b"a.weight", b"c.weight"),
        content.replace(b'"true"', b'"trug"'),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ConfigurationError, match="damaged or altered"):
            read_core_values(tmp_path, digest="abc")
    save_file(VALUES, path, metadata={**metadata, "extra": "x"})
    with pytest.raises(ConfigurationError, match="damaged or altered"):
        read_core_values(tmp_path, digest="abc")
    del metadata["content_sha256"]
    save_file(VALUES, path, metadata=metadata)
    assert read_core_values(tmp_path, digest="abc").from_base


def test_writing_leaves_one_readable_file(tmp_path: Path) -> None:
    """No temporary file stays behind, and others may read the result."""
    write_core_values(tmp_path, VALUES, digest="abc", from_base=True)
    assert [path.name for path in tmp_path.iterdir()] == [CORE_VALUES_FILE]
    assert (tmp_path / CORE_VALUES_FILE).stat().st_mode & stat.S_IRUSR


def test_the_file_of_another_mask_is_replaced_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same mask is replaced silently, another one is not."""
    with caplog.at_level(logging.WARNING):
        write_core_values(tmp_path, VALUES, digest="abc", from_base=True)
        write_core_values(tmp_path, VALUES, digest="abc", from_base=True)
        assert not caplog.records
        write_core_values(tmp_path, VALUES, digest="def", from_base=True)
    assert "another core mask" in caplog.text
    assert read_core_values(tmp_path, digest="def")


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    """Copy it, name the base, or start again."""
    with pytest.raises(ConfigurationError, match=r"missing.*Copy the file.*base_values=.*start again"):
        read_core_values(tmp_path, digest="abc")


def test_another_mask_is_refused(tmp_path: Path) -> None:
    """Both digests are named."""
    write_core_values(tmp_path, VALUES, digest="abc", from_base=True)
    with pytest.raises(ConfigurationError, match=r"its digest is 'abc', that of core_mask is def"):
        read_core_values(tmp_path, digest="def")


@pytest.mark.parametrize("damage", ["truncated", "foreign", "newer"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    """Bytes that are no such file are not guessed at."""
    path = tmp_path / CORE_VALUES_FILE
    write_core_values(tmp_path, VALUES, digest="abc", from_base=True)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-3])
    else:
        metadata = {"digest": "abc"} | (
            {"format": "hf_langcore.core_values", "format_version": "2"} if damage == "newer" else {}
        )
        save_file(VALUES, path, metadata=metadata)
    with pytest.raises(ConfigurationError, match="damaged or was written by another version"):
        read_core_values(tmp_path, digest="abc")
