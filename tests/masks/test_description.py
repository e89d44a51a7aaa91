"""The JSON half: readable, and read as if an enemy had written it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.errors import CoreMaskFormatError
from hf_langcore.masks import description
from hf_langcore.masks.description import describe, entries_of, parse
from hf_langcore.masks.encoding import Block, Entry

ENTRIES = {
    "empty": Entry((3, 4), 0, "empty", inverted=True),
    "bits": Entry((8,), 3, "bits"),
    "rice": Entry((100,), 2, "rice", inverted=True, blocks=(Block(2, 5, 1),)),
    "classes": Entry((4, 50), 5, "rice", classes=(1, 2), blocks=(Block(0, 0, 0, inverted=True), Block(5, 4, 2))),
}


def read(text: str, tmp_path: Path) -> Any:
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    return parse(tmp_path / "x.json")


def entries(fields: Any, *, version: int = 2, name: str = "w") -> dict[str, Entry]:
    return entries_of({"format_version": version, "tensors": {name: fields}}, is_name=str.isalpha)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Every form, with the other values as they were; each tensor is one line."""
    text = describe({"format_version": 2, "word": "ü"}, ENTRIES)
    config = read(text, tmp_path)
    assert config["word"] == "ü"
    assert entries_of(config, is_name=str.isalpha) == ENTRIES
    assert sum('"shape"' in line for line in text.splitlines()) == len(ENTRIES)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "Infinity is no number"),
        ('{"a": 1e999}', "too large"),
        ('{"a": ' + "9" * 5000 + "}", "no valid JSON"),
        ("[" * 100_000, "no valid JSON"),
        ('{"a": {"b": 1, "b": 1}}', "'b' stands twice"),
    ],
)
def test_numbers_and_nesting_that_json_does_not_have(tmp_path: Path, text: str, problem: str) -> None:
    """Python's parser would take most of them."""
    with pytest.raises(CoreMaskFormatError, match=problem):
        read(text, tmp_path)


def test_large_files_are_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither long ones nor ones of very many values, which take far more memory than their text."""
    text = json.dumps([[]] * 100)
    assert read(text, tmp_path) == [[]] * 100
    for limit in ("_MAX_BYTES", "_MAX_VALUES"):
        with monkeypatch.context() as patch:
            patch.setattr(description, limit, 150)
            with pytest.raises(CoreMaskFormatError, match="larger than"):
                read(text, tmp_path)


RICE = {"shape": [100], "count": 2, "kind": "rice", "blocks": [[2, 5, 1, 0]]}


@pytest.mark.parametrize(
    "change",
    [
        {"blocks": [[2, 5, 1]]},
        {"blocks": [[2, 5, 1, 2]]},
        {"blocks": [[2, 5, 1.0, 0]]},
        {"blocks": [[2, 5, True, 0]]},
        {"blocks": 7},
        {"blocks": [7]},
        {"classes": [1]},
        {"classes": [1, 1, 1]},
        {"classes": "11"},
        {"shape": 5},
        {"shape": "12"},
        {"count": "2"},
        {"unknown": 1},
    ],
)
def test_fields_of_another_form_are_refused(change: dict[str, Any]) -> None:
    """One error for all of them, whatever Python would have raised."""
    assert entries(RICE)["w"].count == 2
    with pytest.raises(CoreMaskFormatError, match="does not describe its tensors correctly"):
        entries(RICE | change)


def test_new_forms_need_the_new_version() -> None:
    """A file that calls itself older than it is was altered."""
    with pytest.raises(CoreMaskFormatError, match="in format version 1"):
        entries(RICE, version=1)


def test_names_are_checked() -> None:
    """A name becomes part of messages and of keys."""
    with pytest.raises(CoreMaskFormatError, match=r"'\.\./x' in the mask's JSON file is no parameter name"):
        entries(RICE, name="../x")
    with pytest.raises(CoreMaskFormatError, match="lists no tensors"):
        entries_of({"format_version": 2, "tensors": {}}, is_name=str.isalpha)
