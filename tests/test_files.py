"""Atomic files: the old content or the new, ordinary permissions, nothing left behind."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.errors import WriteError
from hf_langcore.files import replace_file, replace_json, replace_text, sha256_of


def test_content_arrives_in_new_folders(tmp_path: Path) -> None:
    """Missing parents are made; only the file itself is there afterwards."""
    path = tmp_path / "a" / "b" / "file.bin"
    replace_file(path, lambda temporary: temporary.write_bytes(b"content"))
    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    """The error comes through, and no temporary file stays."""
    path = tmp_path / "file.txt"
    path.write_text("old", encoding="utf-8")

    def fail(temporary: Path) -> None:
        temporary.write_text("half of the ne", encoding="utf-8")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(path, fail)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_a_failure_after_writing_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """Until the rename the old file is not touched."""
    path = tmp_path / "file.txt"
    path.write_text("old", encoding="utf-8")

    def fail(*_: object) -> None:
        raise OSError("broken")

    monkeypatch.setattr(Path if operation == "replace" else os, operation, fail)
    with pytest.raises(OSError, match="broken"):
        replace_text(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_flushed_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a power cut could leave the new name on an empty file."""
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("flush"), fsync(handle)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (order.append("rename"), replace(self, to)))
    replace_text(tmp_path / "file.txt", "new")
    assert order == ["flush", "rename"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    """As for any file that a program writes; the umask itself stays."""
    before = os.umask(umask)
    try:
        replace_text(tmp_path / "file.txt", "x")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert (tmp_path / "file.txt").stat().st_mode & 0o777 == mode


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_json_round_trip(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    """Every alphabet is written as it is, in UTF-8, with a newline at the end."""
    path = tmp_path_factory.getbasetemp() / "value.json"
    text = json.dumps(value, ensure_ascii=False)
    if any("\ud800" <= character <= "\udfff" for character in text):
        return
    replace_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value
    assert path.read_bytes().endswith(b"\n")


def test_json_is_readable_and_strict(tmp_path: Path) -> None:
    """Indented, other alphabets as they are; NaN is no JSON and leaves the old file."""
    path = tmp_path / "value.json"
    replace_json(path, {"name": "语言"})
    assert path.read_text(encoding="utf-8") == '{\n  "name": "语言"\n}\n'
    for number in (math.nan, math.inf):
        with pytest.raises(ValueError, match="JSON compliant"):
            replace_json(path, {"number": number})
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "语言"}


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_sha256_of_files(tmp_path: Path, size: int) -> None:
    """The same as over all bytes at once, also beyond one read."""
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM])
def test_what_cannot_be_written_is_said(tmp_path: Path, code: int) -> None:
    """With the place, the reason and a way out; the old content stays."""
    path = tmp_path / "x.txt"
    replace_text(path, "old")

    def fail(_: Path) -> None:
        raise OSError(code, "no")

    with pytest.raises(WriteError, match=r"Cannot write .*x\.txt.*still there; free some space"):
        replace_file(path, fail)
    assert path.read_text(encoding="utf-8") == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["x.txt"]


def test_other_errors_of_the_system_stay(tmp_path: Path) -> None:
    def fail(_: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, "no")

    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "x.txt", fail)
