from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from card_models import BASE, BASE_SHA

from hf_langcore.errors import CoreMaskFormatError, InputError
from hf_langcore.hub.references import (
    REFERENCE_FILE,
    CoreMaskReference,
    public_base,
    public_name,
    read_reference,
    write_reference,
)
from hf_langcore.masks import CoreMask, Provenance
from hf_langcore.masks.origin import HubOrigin
from hf_langcore.sealing import sealed

SHA = "c" * 40


def make(
    *, pushed: bool = True, base: str | None = BASE, revision: str | None = BASE_SHA, first: bool = True
) -> CoreMask:
    core = torch.tensor([first, False, True, False])
    mask = CoreMask({"w": core}, provenance=Provenance(method="taylor", base_model=base, base_revision=revision))
    return mask.with_origin(HubOrigin("me/mask", SHA)) if pushed else mask


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """All fields, as the file is described."""
    mask = make()
    written = write_reference(tmp_path, mask)
    assert written == read_reference(tmp_path) == CoreMaskReference("me/mask", SHA, mask.digest(), BASE, BASE_SHA)
    assert json.loads((tmp_path / REFERENCE_FILE).read_text()) == sealed({
        "format": "hf_langcore.core_mask_ref", "format_version": 1, "repo_id": "me/mask", "revision": SHA,
        "digest": mask.digest(), "base_model": BASE, "base_revision": BASE_SHA,
    })  # fmt: skip


def test_a_mask_that_is_not_on_the_hub(tmp_path: Path) -> None:
    """Nothing is written, and a file of another mask goes; one of the same mask is still true."""
    assert write_reference(tmp_path, make(pushed=False)) is None
    assert not (tmp_path / REFERENCE_FILE).exists()
    write_reference(tmp_path, make())
    write_reference(tmp_path, make(pushed=False))
    assert read_reference(tmp_path).repo_id == "me/mask"
    write_reference(tmp_path, make(pushed=False, first=False))
    assert not (tmp_path / REFERENCE_FILE).exists()
    write_reference(tmp_path, make())
    write_reference(tmp_path, None)
    assert list(tmp_path.iterdir()) == []


def test_another_mask_is_refused() -> None:
    reference = CoreMaskReference.of(make())
    assert reference is not None
    reference.require_same(make(pushed=False))
    with pytest.raises(CoreMaskFormatError, match=r"names the mask .* of 'me/mask'"):
        reference.require_same(make(first=False))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"format": "other"}, "does not name a core mask"),
        ({"format_version": 2}, "Update hf_langcore"),
        ({"format_version": True}, "Update hf_langcore"),
        ({"repo_id": "mask"}, "wrong repo_id"),
        ({"repo_id": "me/../mask"}, "wrong repo_id"),
        ({"repo_id": "/etc/passwd"}, "wrong repo_id"),
        ({"repo_id": None}, "wrong repo_id"),
        ({"repo_id": ".hidden/x"}, "wrong repo_id"),
        ({"revision": "main"}, "wrong revision"),
        ({"revision": SHA.upper()}, "wrong revision"),
        ({"revision": SHA + "\n"}, "wrong revision"),
        ({"digest": "0" * 63}, "wrong digest"),
        ({"digest": 5}, "wrong digest"),
        ({"base_model": "a/b/c"}, "wrong base_model"),
        ({"base_revision": "main"}, "wrong base_revision"),
        ({"more": 1}, r"too many or too few: \['more'\]"),
    ],
)
def test_every_field_is_checked(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    write_reference(tmp_path, make())
    path = tmp_path / REFERENCE_FILE
    path.write_text(json.dumps(sealed(json.loads(path.read_text()) | change)))
    with pytest.raises(CoreMaskFormatError, match=words):
        read_reference(tmp_path)


def test_no_word_changes_unnoticed(tmp_path: Path) -> None:
    """Another repository is as well formed as the right one."""
    write_reference(tmp_path, make())
    path = tmp_path / REFERENCE_FILE
    path.write_text(path.read_text().replace("me/mask", "my/mask"))
    with pytest.raises(CoreMaskFormatError, match="another checksum"):
        read_reference(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"format": "hf_langcore.core_mask_ref", "format": 1}', "[" * 100_000, "\udc80", " " * 70_000],
)
def test_damaged_files_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / REFERENCE_FILE).write_bytes(text.encode("utf-8", errors="surrogateescape"))
    with pytest.raises(CoreMaskFormatError):
        read_reference(tmp_path)


def test_a_key_that_stands_twice(tmp_path: Path) -> None:
    """Readers differ in which of the two they take."""
    write_reference(tmp_path, make())
    path = tmp_path / REFERENCE_FILE
    path.write_text(path.read_text().replace('"revision"', f'"revision": "{"d" * 40}",\n  "revision"'))
    with pytest.raises(CoreMaskFormatError, match="stands twice"):
        read_reference(tmp_path)


def test_missing_fields_and_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no core_mask_ref\.json"):
        read_reference(tmp_path)
    write_reference(tmp_path, make())
    path = tmp_path / REFERENCE_FILE
    path.write_text(
        json.dumps(sealed({key: one for key, one in json.loads(path.read_text()).items() if key != "digest"}))
    )
    with pytest.raises(CoreMaskFormatError, match=r"\['digest'\]"):
        read_reference(tmp_path)


@pytest.mark.parametrize(
    "name, revision, public",
    [
        ("me/model", None, "me/model"),
        ("me/model", SHA, "me/model"),
        ("gpt2", SHA, "gpt2"),
        ("gpt2", None, None),
        ("gpt2", "main", None),
        ("", SHA, None),
        (None, SHA, None),
        ("./me", SHA, None),
        ("me/models/base", SHA, None),
        ("~/base", None, None),
        ("C:\\models\\base", SHA, None),
    ],
)
def test_names_that_others_can_load(name: str | None, revision: str | None, public: str | None) -> None:
    assert public_name(name, revision) == public


def test_folders_are_nobodys_business(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder has no name for others, absolute or not, and its revision is none."""
    (tmp_path / "me" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name in (str(tmp_path), "me/model"):
        assert public_name(name) is None
        assert public_base(make(base=name, revision=None)) == (None, None)
    assert public_base(make(base="org/base", revision="main")) == ("org/base", None)
